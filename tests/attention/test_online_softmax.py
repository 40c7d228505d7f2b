"""Softmax over keys that come in blocks, held against softmax over all of them."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention import OnlineSoftmax, Partial, merge

INF = float("inf")


def attention(scores, values):
    """Attention in fp64 and its log-sum-exp; 0 and minus infinity where every score is minus infinity."""
    scores, values = scores.double(), values.double()
    lse = scores.logsumexp(dim=-1)
    return (scores - lse[..., None].nan_to_num(neginf=0)).exp() @ values, lse


def partial(scores, values):
    """The same by one step of ours."""
    state = OnlineSoftmax.empty(scores.shape[:-1], values.shape[-1], scores.dtype)
    state.add(scores.clone(), values)
    return state.result()


@st.composite
def problems(draw):
    """Scores of a random size with hidden ones, values, and where the keys are cut."""
    keys, seed = draw(st.integers(1, 12)), draw(st.integers(0, 10**6))
    size, hidden = draw(st.sampled_from([1.0, 30.0, 1e4])), draw(st.sampled_from([0.0, 0.4, 1.0]))
    random = torch.Generator().manual_seed(seed)
    scores = (torch.randn(2, 3, keys, generator=random, dtype=torch.float64) * size).float()
    scores[torch.rand(2, 3, keys, generator=random) < hidden] = -INF
    cuts = sorted(draw(st.sets(st.integers(1, max(1, keys - 1)), max_size=3)) & set(range(1, keys)))
    return scores, torch.randn(2, keys, 4, generator=random), [0, *cuts, keys]


def spans(cuts):
    return [slice(a, b) for a, b in pairwise(cuts)]


def agree(got, want):
    torch.testing.assert_close(got[0].double(), want[0], atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(got[1].double(), want[1], atol=2e-6, rtol=2e-6)


@settings(deadline=None)
@given(problems())
def test_block_by_block_is_all_at_once(problem):
    scores, values, cuts = problem
    state = OnlineSoftmax.empty(scores.shape[:-1], 4)
    for span in spans(cuts):
        state.add(scores[..., span].clone(), values[:, span])
        agree(state.result(), attention(scores[..., : span.stop], values[:, : span.stop]))
    assert torch.equal(state.maximum[..., 0], scores.amax(dim=-1))
    assert not state.result().out.isnan().any()


@settings(deadline=None)
@given(problems())
def test_parts_merge_to_the_whole_in_any_order(problem):
    scores, values, cuts = problem
    parts = [partial(scores[..., span], values[:, span]) for span in spans(cuts)]
    agree(merge(parts), attention(scores, values))
    agree(merge(parts[::-1]), attention(scores, values))
    agree(merge([merge(parts[:1]), *parts[1:]]), attention(scores, values))


@settings(deadline=None)
@given(problems())
def test_states_of_parts_join(problem):
    scores, values, cuts = problem
    state = OnlineSoftmax.empty(scores.shape[:-1], 4)
    for span in spans(cuts):
        other = OnlineSoftmax.empty(scores.shape[:-1], 4)
        other.add(scores[..., span].clone(), values[:, span])
        state.join(other)
    agree(state.result(), attention(scores, values))


def test_three_numbers_by_hand():
    state = OnlineSoftmax.empty((1, 1), 1)
    state.add(torch.tensor([[[0.0, 2.0]]]).log(), torch.tensor([[[1.0], [4.0]]]))
    assert (state.maximum.exp().item(), state.total.item(), state.weighted.item()) == (2.0, 1.0, 4.0)
    state.add(torch.tensor([[[8.0]]]).log(), torch.tensor([[[9.0]]]))
    assert state.maximum.exp().item() == pytest.approx(8.0)
    assert state.total.item() == pytest.approx(1.25), "what was 1 is a quarter beside the new maximum"
    assert state.weighted.item() == pytest.approx(10.0)
    out, lse = state.result()
    assert (out.item(), lse.exp().item()) == pytest.approx((8.0, 10.0))


def test_merged_halves_keep_their_dtype():
    parts = [Partial(torch.full((2, 3), x, dtype=torch.bfloat16), torch.full((2,), 0.0)) for x in (1.0, 2.0)]
    out, lse = merge(parts)
    assert out.dtype == torch.bfloat16
    assert (out == 1.5).all()
    torch.testing.assert_close(lse, torch.full((2,), 2.0).log())
    torch.testing.assert_close(merge([tuple(part) for part in parts]), merge(parts))


def test_what_does_not_merge_is_refused():
    part = Partial(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="at least one part"):
        merge([])
    for out, lse in ((torch.zeros(3, 3), torch.zeros(3)), (torch.zeros(2, 3), torch.zeros(3))):
        with pytest.raises(ValueError, match=r"expected out \(2, 3\) and lse \(2,\) in every part"):
            merge([part, Partial(out, lse)])
