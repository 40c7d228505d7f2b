"""Products with few bits, against the same numbers in fp64."""

import pytest
import torch

from helpers.ops import low_bit


def numbers(*size, seed=0):
    return torch.randint(-127, 128, size, generator=torch.Generator().manual_seed(seed)).to(torch.int8)


@pytest.mark.parametrize("columns", [1, 64, 1024, 1025, 3000])
@pytest.mark.parametrize("instructions", [True, False])
def test_sums_of_int8_products_are_exact(columns, instructions, monkeypatch):
    monkeypatch.setattr(low_bit, "_multiplies_int8", lambda: instructions)
    x, weight = numbers(3, columns), numbers(5, columns, seed=1)
    got = low_bit.matmul_int8(x, weight)
    assert got.dtype == torch.int32
    assert torch.equal(got.double(), x.double() @ weight.double().t())


@pytest.mark.parametrize("instructions", [True, False])
def test_the_largest_sums_are_exact(instructions, monkeypatch):
    monkeypatch.setattr(low_bit, "_multiplies_int8", lambda: instructions)
    extreme = torch.full((1, 1536), 127, dtype=torch.int8)
    assert low_bit.matmul_int8(extreme, -extreme).item() == -(127**2) * 1536


def test_int4_is_code_minus_eight_times_scale_plus_zero():
    like = torch.empty(0, dtype=torch.bfloat16)
    if not low_bit.serves_int4(32, 64, 32, like):
        pytest.skip("this torch or this processor has no vectorised int4 product")
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (32, 64), generator=draw)
    scale, minimum = torch.rand(32, 2, generator=draw), torch.randn(32, 2, generator=draw)
    packed, both = low_bit.pack_int4(codes, scale, minimum)
    assert packed.nbytes == 32 * 32
    assert both.shape == (2, 32, 2)
    got = low_bit.linear_int4(torch.eye(64, dtype=torch.bfloat16), packed, both, 32).t().double()
    want = codes * scale.double().repeat_interleave(32, 1) + minimum.double().repeat_interleave(32, 1)
    assert ((got - want).abs() <= 2**-7 * (16 * scale.double().repeat_interleave(32, 1) + want.abs())).all()


def test_int8_is_a_number_times_its_rows_scale():
    if not low_bit.serves_int8(torch.empty(0, dtype=torch.bfloat16)):
        pytest.skip("this torch or this processor has no vectorised int8 product")
    weight, scale = numbers(16, 64), torch.rand(16).to(torch.bfloat16)
    got = low_bit.linear_int8(torch.eye(64, dtype=torch.bfloat16), weight, scale).t().double()
    want = weight.double() * scale.double().unsqueeze(1)
    torch.testing.assert_close(got, want, rtol=2**-7, atol=0)


@pytest.mark.parametrize(
    ("rows", "columns", "group", "dtype"),
    [
        (17, 64, 32, torch.bfloat16), (32, 64, 16, torch.bfloat16), (32, 96, 64, torch.bfloat16),
        (32, 64, 32, torch.float32),
    ],
)  # fmt: skip
def test_what_the_int4_kernel_does_not_serve(rows, columns, group, dtype):
    assert not low_bit.serves_int4(rows, columns, group, torch.empty(0, dtype=dtype))


def test_int8_is_not_served_in_fp32_nor_without_vectors(monkeypatch):
    assert not low_bit.serves_int8(torch.empty(0))
    assert not low_bit.serves_int8(
        torch.empty(0, dtype=torch.bfloat16), 36
    )  # the kernel reads beyond such rows
    low_bit._vectorised.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert not low_bit.serves_int8(torch.empty(0, dtype=torch.bfloat16))
    low_bit._vectorised.cache_clear()


def test_words_hold_eight_numbers_the_first_in_the_lowest_bits():
    words = low_bit.pack_words(torch.tensor([[1, -1, 7, -8, 0, 0, 0, -8]], dtype=torch.int8))
    assert words.dtype == torch.int32
    assert words.item() & 0xFFFFFFFF == 0x800087F1
    numbers = torch.randint(-8, 8, (5, 24), dtype=torch.int8)
    assert torch.equal(low_bit.unpack_words(low_bit.pack_words(numbers)), numbers)


def test_both_sides_in_8_bits():
    x, weight, scale = torch.randn(3, 40), torch.randint(-127, 128, (6, 40), dtype=torch.int8), torch.rand(6)
    step = x.abs().amax(-1, keepdim=True) / 127
    want = ((x / step).round() @ weight.float().t()) * step * scale
    assert torch.allclose(low_bit.linear_w8a8(x, weight, scale), want, rtol=1e-4, atol=1e-4)


def test_an_offset_comes_before_the_scale():
    x = torch.randn(3, 64)
    weight, scale, offset = (
        torch.randint(-8, 8, (64, 8), dtype=torch.int8),
        torch.rand(2, 8),
        torch.randn(2, 8),
    )
    numbers = torch.cat([(weight[:32] + offset[0]) * scale[0], (weight[32:] + offset[1]) * scale[1]])
    assert torch.allclose(low_bit.linear_weight_only(x, weight, scale, offset, 32), x @ numbers, atol=1e-4)
    assert torch.allclose(
        low_bit.linear_weight_only(x, low_bit.pack_words(weight), scale, offset, 32), x @ numbers, atol=1e-4
    )
    assert torch.allclose(low_bit.linear_weight_only(x, weight, scale[0]), x @ (weight * scale[0]), atol=1e-4)
