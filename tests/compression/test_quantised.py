"""Quantised matrices: half a step everywhere, bytes as the format says, values that are their own grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.compression import quantise_matrix, rounded
from helpers.estimates import NumberFormat

FORMATS = st.builds(
    NumberFormat,
    st.integers(2, 8),
    st.one_of(st.sampled_from(["row", "tensor", 32]), st.integers(1, 40)),
    st.sampled_from(["none", "minimum", "zero"]),
    st.sampled_from(["fp32", "fp16", "bf16"]),
)


def weights(rows, columns, seed=0, shift=0.0, size=1.0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * size + shift


@settings(max_examples=150, deadline=None)
@given(
    FORMATS, st.integers(1, 9), st.integers(1, 70), st.integers(0, 99), st.sampled_from([0.0, 0.3, -40.0]),
    st.sampled_from([1e-4, 1.0, 300.0]),
)  # fmt: skip
def test_every_weight_lies_within_half_a_step(fmt, rows, columns, seed, shift, size):
    weight = weights(rows, columns, seed, shift, size)
    quantised = quantise_matrix(weight, fmt)
    steps = quantised.scale.float()
    if isinstance(fmt.group, int):
        steps = steps.repeat_interleave(fmt.group, dim=1)[:, :columns]
    error = (quantised.dequantise() - weight).abs()
    assert (error <= steps * 0.5001 + 1e-6 * weight.abs()).all()
    assert quantised.nbytes == fmt.nbytes(rows, columns)
    assert torch.equal(rounded(weight, fmt), quantised.dequantise())


@pytest.mark.parametrize(
    "fmt", [NumberFormat(4, 32, "minimum"), NumberFormat(8, 32), NumberFormat(3, 16, "zero")], ids=str
)
def test_values_on_the_grid_come_back_exactly(fmt):
    """A file's own grid, found again from the values alone."""
    weight = quantise_matrix(weights(16, 64), fmt).dequantise()
    assert torch.equal(quantise_matrix(weight, fmt).dequantise(), weight)
    assert not torch.equal(quantise_matrix(weight, NumberFormat(4, 64)).dequantise(), weight)


def test_a_code_is_a_zero_a_scale_and_a_minimum():
    symmetric = quantise_matrix(torch.tensor([[-7.0, 0.0, 3.4, 7.0]]), NumberFormat(4))
    assert symmetric.codes.tolist() == [[1, 8, 11, 15]]
    assert symmetric.scale.tolist() == [[1.0]]
    zero = quantise_matrix(torch.tensor([[-5.0, 0.0, 9.6, 10.0]]), NumberFormat(4, "row", "zero"))
    assert zero.codes.tolist() == [[0, 5, 15, 15]]
    assert zero.grid.zero.tolist() == [[5.0]]
    low = quantise_matrix(torch.tensor([[2.0, 3.0, 9.4, 17.0]]), NumberFormat(4, "row", "minimum"))
    assert low.codes.tolist() == [[0, 1, 7, 15]]
    assert low.offset.tolist() == [[2.0]]


@pytest.mark.parametrize("group", ["row", "tensor", 5])
def test_rows_alone_are_those_of_the_whole(group):
    quantised = quantise_matrix(weights(7, 12), NumberFormat(5, group, "zero"))
    numbers = torch.tensor([6, 0, 0, 3])
    assert torch.equal(quantised.dequantise(numbers), quantised.dequantise()[numbers])


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (0, 4)])
def test_what_is_no_matrix_is_refused(shape):
    with pytest.raises(ValueError, match="expected a matrix"):
        quantise_matrix(torch.zeros(shape), NumberFormat(4))
