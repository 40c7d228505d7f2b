"""A stored matrix: its numbers are `(code - zero) * scale`, and its codes multiply to the same."""

import torch

from helpers.compression import DequantisedProduct, StoredMatrix, stacked


def test_codes_and_numbers_agree_in_groups_with_zero_points():
    codes, scale, zero = torch.randint(0, 16, (4, 64)), torch.rand(4, 2) + 0.1, torch.randint(0, 17, (4, 2))
    matrix = StoredMatrix.of(codes, scale, zero, 4)
    want = (codes - zero.repeat_interleave(32, 1)) * scale.repeat_interleave(32, 1)
    torch.testing.assert_close(matrix.numbers, want)
    x = torch.randn(3, 64)
    torch.testing.assert_close(DequantisedProduct(matrix.quantised)(x), x @ want.t(), atol=1e-4, rtol=1e-4)


def test_symmetric_rows_of_8_bits_may_have_int8_activations():
    codes = torch.randint(0, 256, (4, 64))
    same = StoredMatrix.of(codes, torch.rand(4, 1), torch.full((1, 1), 128), 8, activations=True)
    assert same.activations
    assert same.quantised.format.symmetric
    shifted = StoredMatrix.of(codes, torch.rand(4, 1), torch.full((4, 1), 120), 8, activations=True)
    assert not shifted.activations, "an offset does not go through the product of int8 numbers"


def test_stacked_rows_are_the_rows_of_each():
    parts = [
        StoredMatrix.of(torch.randint(0, 16, (n, 64)), torch.rand(n, 2), torch.randint(1, 16, (n, 2)), 4)
        for n in (2, 3)
    ]
    assert torch.equal(stacked(parts).dequantise(), torch.cat([part.numbers for part in parts]))
    assert stacked([parts[0], StoredMatrix(torch.zeros(2, 64))]) is None
    other = StoredMatrix.of(torch.randint(0, 16, (2, 64)), torch.rand(2, 1), torch.randint(1, 16, (2, 1)), 4)
    assert stacked([parts[0], other]) is None
