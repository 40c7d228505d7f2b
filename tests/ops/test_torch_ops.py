"""The plain operators against their formulas in fp64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import ops

ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def randn(*size, dtype=torch.float32, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def near(got, want, dtype):
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, atol=ROUNDING[dtype], rtol=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", ROUNDING)
def test_rms_norm_is_its_formula(dtype):
    x, weight = randn(5, 48, dtype=dtype), randn(48, dtype=dtype, seed=1)
    exact = x.double() / (x.double().square().mean(-1, True) + 0.3).sqrt() * weight.double()
    near(ops.rms_norm(x, weight, 0.3), exact, dtype)


def test_the_mean_of_squares_does_not_overflow_in_half_precision():
    x = torch.full((1, 64), 1000.0, dtype=torch.float16)  # 1000 ** 2 is no fp16 number
    assert ops.rms_norm(x, torch.ones(64).half(), 1e-5).tolist() == [[1.0] * 64]


def test_add_rms_norm_gives_the_norm_of_the_sum_and_the_sum():
    x, residual, weight = randn(5, 48), randn(5, 48, seed=1), randn(48, seed=2)
    total = x + residual
    before = x.clone()
    normed, summed = ops.add_rms_norm(x, residual, weight, 1e-5)
    torch.testing.assert_close(summed, total, atol=0, rtol=0)
    torch.testing.assert_close(normed, ops.rms_norm(total, weight, 1e-5), atol=0, rtol=0)
    assert summed.data_ptr() == residual.data_ptr(), "the residual's memory holds the sum"
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_rotary_turns_each_pair_by_its_angle(dtype):
    x, angles = randn(5, 3, 16, dtype=dtype), torch.rand(5, 1, 8, dtype=torch.float64) * 6
    cos, sin = (f(angles).repeat(1, 1, 2).to(dtype) for f in (torch.cos, torch.sin))
    before = x.clone()
    first, second = x.double().chunk(2, -1)
    c, s = cos.double()[..., :8], sin.double()[..., :8]
    near(ops.rotary(x, cos, sin), torch.cat((first * c - second * s, second * c + first * s), -1), dtype)
    assert torch.equal(x, before)


def test_rotated_queries_and_keys_know_their_distance_alone():
    def turned(x, position):
        angles = (position * 0.1 ** torch.arange(8)).repeat(2)[None, None]
        return ops.rotary(x, angles.cos(), angles.sin())

    q, k = randn(1, 1, 16), randn(1, 1, 16, seed=1)
    near_, far = ((turned(q, at + 7) * turned(k, at)).sum() for at in (0, 90))
    torch.testing.assert_close(near_, far, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_swiglu_is_its_formula(dtype):
    x = randn(4, 22, dtype=dtype)
    before = x.clone()
    gate, up = x.double().chunk(2, -1)
    near(ops.swiglu(x), gate * torch.sigmoid(gate) * up, dtype)
    assert torch.equal(x, before)


def test_linear_is_a_product_with_the_transposed_weight():
    x, weight, bias = randn(3, 8), randn(5, 8, seed=1), randn(5, seed=2)
    near(ops.linear(x, weight), x.double() @ weight.double().T, torch.float32)
    near(ops.linear(x, weight, bias), x.double() @ weight.double().T + bias.double(), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [1, 5, 70])
def test_a_packed_weight_gives_the_plain_product(dtype, tokens):
    torch.manual_seed(tokens)
    x, weight, bias = (torch.randn(*size).to(dtype) for size in ((tokens, 96), (80, 96), (80,)))
    packed = ops.pack_weight(weight)
    assert packed.shape == weight.shape
    assert packed.dtype in (dtype, torch.float32), "fp32 where the processor lacks the 16-bit instructions"
    assert packed.nbytes == weight.to(packed.dtype).nbytes
    assert ops.linear(x, packed).dtype == dtype
    for b in (bias, None):
        exact = x.double() @ weight.double().T + (0 if b is None else b.double())
        error = (ops.linear(x, packed, b).double() - exact).abs().max()
        assert error < {torch.float32: 1e-4, torch.bfloat16: 0.3, torch.float16: 0.05}[dtype]


@pytest.mark.parametrize("weight", [torch.ones(6, 4, dtype=torch.float64), torch.ones(6, 4, device="meta")])
def test_a_weight_without_a_layout_of_its_own_stays_the_same(weight):
    assert ops.pack_weight(weight) is weight


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=4))
def test_the_likeliest_is_the_first_of_the_largest(rows):
    width = max(map(len, rows))
    rows = [[*row, *[-9] * (width - len(row))] for row in rows]
    places, values = ops.likeliest(torch.tensor(rows, dtype=torch.float32))
    assert values == [max(row) for row in rows]
    assert places == [row.index(max(row)) for row in rows]


def test_a_nan_is_found_wherever_it_stands():
    for place in (0, 3, 6):
        logits = torch.zeros(2, 7)
        logits[1, 5], logits[0, place] = math.inf, math.nan
        assert [math.isnan(value) for value in ops.likeliest(logits)[1]] == [True, False]
