"""The loops over tiles: folded heads, splits, large scores, sinks, and gradients by recomputation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import FlashAttention
from helpers.attention import LARGE_SCORE, Problem, Tiling, Visibility
from tests.attention.exact import close_to_lse, exact, mask_of, problems, randn, tensors, visible


def problem_of(q, k, window=None, splits=1):
    seen = Visibility(q.shape[2], k.shape[2], window=window)
    return Problem.of(q, k, seen, Tiling(4, 4), 1.0, splits)


def test_folding_puts_the_queries_of_heads_that_share_keys_one_after_the_other():
    q, k, _ = tensors(2, 6, 2, 3, 5, 4, 4)
    problem = problem_of(q, k)
    folded = problem.fold(q)
    assert folded.shape == (2 * 2, 3 * 3, 4)
    assert torch.equal(folded[1], q[0, 3:].reshape(9, 4)), "the last three heads of the first sequence"
    assert torch.equal(problem.unfold(folded), q)
    assert problem.unfold(folded).data_ptr() == folded.data_ptr()


@pytest.mark.parametrize("splits", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("keys", [0, 1, 7, 12])
def test_splits_hold_every_key_once(keys, splits):
    q, k, _ = tensors(1, 1, 1, 1, keys, 4, 4)
    parts = list(problem_of(q, k, splits=splits).splits())
    assert 1 <= len(parts) <= splits
    assert [key for start, end in parts for key in range(start, end)] == list(range(keys))


def test_only_seen_keys_make_scores_large():
    q, k = torch.full((1, 1, 1, 1), 4.0), torch.tensor([LARGE_SCORE, 8.0]).reshape(1, 1, 2, 1)
    assert problem_of(q, k).precision == torch.float64
    assert problem_of(q, k, window=1).precision == torch.float32, (
        "4 times 8 is not above 32, 4 times 32 is hidden"
    )
    assert problem_of(1.01 * q, k, window=1).precision == torch.float64
    assert problem_of(q.double(), k.double(), window=1).precision == torch.float64


@pytest.mark.parametrize("largest", [5.0, 1e4])
def test_scores_that_fp32_cannot_hold_are_computed_in_fp64(largest):
    """In fp32 neighbouring numbers near 10,000 are 0.001 apart, and so would be the weights."""
    q, k, v = tensors(1, 4, 2, 60, 60, 64, 64, largest=largest)
    want, _ = exact(q, k, v, visible(60, 60))
    error = (FlashAttention(16)(q, k, v) - want).abs().max().item()
    assert error < 3e-6
    state = next(FlashAttention(16).steps(q, k, v))
    longest = [t.norm(dim=-1).max().item() for t in (q, k)]
    large = math.prod(longest) / 8 > LARGE_SCORE
    assert large == (largest > 100)
    assert state.scores.dtype == (torch.float64 if large else torch.float32)
    assert state.total.dtype == torch.float32


@settings(deadline=None, max_examples=60)
@given(problems((torch.float32,)), st.sampled_from([-30.0, 0.0, 3.0, 50.0]))
def test_a_sink_takes_its_share_and_has_no_value(problem, level):
    attention, q, k, v = problem
    sinks = randn(q.shape[1], seed=5) + level
    out, lse = attention(q, k, v, sinks=sinks, return_lse=True)
    want, want_lse = exact(q, k, v, mask_of(attention, q, k), sinks=sinks)
    close_to_lse(lse, want_lse)
    torch.testing.assert_close(out.double(), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sinks"),
    [
        ({}, False),
        ({"causal": False, "num_splits": 2}, False),
        ({"window": 3}, True),
        ({"scale": 0.3}, True),
    ],
)
def test_gradients_are_those_of_the_function(options, sinks):
    q, k, v = (t.double().requires_grad_() for t in tensors(2, 4, 2, 6, 5, 3, 2))
    given = (randn(4, seed=9).double().requires_grad_(),) if sinks else ()
    attention = FlashAttention(2, 4, **options)

    def function(q, k, v, *sinks):
        out, lse = attention(q, k, v, sinks=sinks[0] if sinks else None, return_lse=True)
        return out, lse[:, :, 1:].nan_to_num(neginf=0) if sinks else lse[:, :, 3:]

    assert torch.autograd.gradcheck(function, (q, k, v, *given))


def test_gradients_of_ragged_sequences_and_of_bf16():
    q, k, v = (t.double().requires_grad_() for t in tensors(2, 2, 1, 4, 6, 3, 3))
    attention = FlashAttention(2, 3)
    assert torch.autograd.gradcheck(lambda *qkv: attention(*qkv, q_lens=[4, 2], kv_lens=[3, 6]), (q, k, v))
    half = [t.detach().bfloat16().requires_grad_() for t in (q, k, v)]
    attention(*half).float().square().sum().backward()
    full = [t.detach().double().requires_grad_() for t in half]
    attention(*full).square().sum().backward()
    for ours, want in zip(half, full, strict=True):
        assert ours.grad.dtype == torch.bfloat16
        torch.testing.assert_close(ours.grad.double(), want.grad, atol=0.05, rtol=0.05)
