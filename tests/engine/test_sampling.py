"""The next token: the likeliest of each row, or one drawn with a seed, and nothing where there is no number.

Log-probabilities are those of the model, whatever the request draws by.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.engine import Request, choose, kept_tokens, logprobs_of


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_there_is_no_likeliest_token_among_nans(temperature):
    requests = [Request("good", [1]), Request("bad", [1], temperature=temperature)]
    logits = torch.zeros(2, 5)
    logits[1, 2] = math.nan
    with pytest.raises(ValueError, match="logits of request 'bad' are not a number"):
        choose(logits, requests, [0, 0])
    assert choose(logits[:1], requests[:1], [0]) == [0]


@pytest.mark.parametrize("seed", [0, -5, 2**62, 2**80, -(2**80)])
def test_any_whole_number_is_a_seed(seed):
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    request = Request("a", [1], temperature=5.0, seed=seed)
    drawn = [choose(logits, [request], [place])[0] for place in range(20)]
    assert drawn == [choose(logits, [request], [place])[0] for place in range(20)]
    assert len(set(drawn)) > 5, "the place counts, too"


def test_a_temperature_near_zero_is_greedy():
    logits = torch.tensor([[100.0, 300.0, 299.0, -1e30]])
    for temperature in (1e-3, 1e-30, 5e-324):
        assert choose(logits, [Request("a", [1], temperature=temperature)], [0]) == [1]


def test_a_row_draws_the_same_whatever_stands_beside_it():
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    requests = [Request(i, [1], temperature=2.0, top_p=0.9, top_k=30, seed=7) for i in range(6)]
    together = choose(logits, requests, range(6))
    assert together == [choose(logits[i : i + 1], requests[i : i + 1], [i])[0] for i in range(6)]
    assert together != choose(logits, requests, range(1, 7))


def drawn(count=4000, **how):
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    tokens = [choose(logits, [Request("x", [1], seed=seed, **how)], [seed % 7])[0] for seed in range(count)]
    return torch.bincount(torch.tensor(tokens), minlength=4) / count


def test_draws_follow_the_probabilities():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    torch.testing.assert_close(drawn(temperature=1.0), logits.softmax(-1), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn(temperature=2.0), (logits / 2).softmax(-1), atol=0.03, rtol=0)
    assert drawn(100)[0] == 1, "greedy"
    cut = logits.softmax(-1)
    two = torch.tensor([cut[0], cut[1], 0, 0]) / (cut[0] + cut[1])
    torch.testing.assert_close(drawn(temperature=1.0, top_k=2), two, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn(temperature=1.0, top_p=0.8), two, atol=0.03, rtol=0)
    assert drawn(100, temperature=1.0, top_p=0.1)[0] == 1, "the likeliest one always stays"


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        (dict(top_k=1), 1),
        (dict(top_k=3), 3),
        (dict(top_k=9), 4),
        (dict(top_p=0.6), 1),  # the likeliest has 0.64
        (dict(top_p=0.65), 2),
        (dict(top_p=0.95), 3),
        (dict(top_p=1.0), 4),
        (dict(top_k=3, top_p=0.9), 2),  # of three tokens, the first two have 0.91
        (dict(top_k=2, top_p=0.7), 1),  # of two tokens, the first has 0.73
    ],
)
def test_top_k_is_cut_first_and_top_p_counts_what_is_left(how, kept):
    want = torch.tensor([2.0, 1.0, 0.0, -1.0]).softmax(-1)
    want[kept:] = 0
    torch.testing.assert_close(drawn(1500, temperature=1.0, **how), want / want.sum(), atol=0.04, rtol=0)


def test_a_top_p_of_one_cuts_nothing():
    row = np.array([0.0, -20.0], dtype=np.float32)
    tokens, weights = kept_tokens(row, Request("x", [1], temperature=1.0))
    assert tokens.tolist() == [0, 1]
    assert weights[1] > 0, "the rounded share of likelier tokens is 1, and the other token stays all the same"


def by_sorting_all(row, request):
    """The kept tokens and their shares by definition: all tokens in order, numbers in fp64."""
    scaled = (row.double() - row.double().max()) / request.temperature
    order = scaled.sort(descending=True, stable=True).indices
    if request.top_k:
        order = order[: request.top_k]
    weights = scaled[order].exp()
    before = weights.cumsum(0) - weights
    near = (before - request.top_p * weights.sum()).abs() < 1e-5 * weights.sum()  # rounding decides
    kept = before < request.top_p * weights.sum() if request.top_p < 1 else torch.ones_like(near)
    return order[kept], weights[kept], bool(near[1:].any()) and request.top_p < 1


@settings(max_examples=300, deadline=None)
@given(
    size=st.integers(1, 300),
    levels=st.sampled_from([1, 2, 7, 10**6]),
    spread=st.sampled_from([0.0, 0.3, 3.0, 40.0]),
    temperature=st.sampled_from([0.05, 0.7, 1.0, 3.0]),
    top_k=st.integers(0, 310),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.01]),
    none=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_kept_tokens_are_those_of_a_whole_sort(size, levels, spread, temperature, top_k, top_p, none, seed):
    draw = torch.Generator().manual_seed(seed)
    row = torch.randint(levels, (size,), generator=draw) / levels * spread  # few levels: many equal numbers
    row[torch.randperm(size, generator=draw)[: min(none, size - 1)]] = -math.inf
    request = Request("x", [1], temperature=temperature, top_k=top_k, top_p=top_p)
    right, shares, rounded = by_sorting_all(row, request)
    tokens, weights = kept_tokens(row.numpy(), request)
    if not rounded:
        assert sorted(tokens.tolist()) == sorted(right.tolist())
        found = dict(zip(tokens.tolist(), (weights / weights.sum()).tolist(), strict=True))
        wanted = dict(zip(right.tolist(), (shares / shares.sum()).tolist(), strict=True))
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("how", [dict(), dict(top_k=3), dict(top_p=0.95), dict(top_k=3, top_p=0.95)])
def test_two_tokens_that_a_rounding_exchanges_keep_their_parts(how):
    """The likeliest two differ by a rounding, once this way and once that way: each seed draws the same."""
    rows = torch.tensor([[1.0, 0.0, 1.0 + 1e-6, -1.0], [1.0 + 1e-6, 0.0, 1.0, -1.0]])
    drawn = [
        choose(rows, [Request(i, [1], temperature=1.0, seed=seed, **how) for i in range(2)], [0, 0])
        for seed in range(200)
    ]
    assert [one for one, _ in drawn] == [other for _, other in drawn]
    assert {one for one, _ in drawn} >= {0, 1, 2}


@pytest.mark.parametrize("how", [dict(), dict(top_k=40), dict(top_p=0.9), dict(top_k=40, top_p=0.9)])
def test_only_kept_tokens_are_drawn_each_by_its_share(how):
    row = torch.randn(500, generator=torch.Generator().manual_seed(3)) * 2
    row[:250] = -math.inf
    tokens, weights = kept_tokens(row.numpy(), Request("x", [1], temperature=1.0, **how))
    requests = [Request(i, [1], temperature=1.0, seed=i, **how) for i in range(3000)]
    found = torch.bincount(torch.tensor(choose(row.expand(3000, -1), requests, [0] * 3000)), minlength=500)
    assert set(found.nonzero().flatten().tolist()) <= set(tokens[weights > 0].tolist())
    shares = torch.zeros(500, dtype=torch.float64)
    shares[tokens] = torch.from_numpy(weights / weights.sum()).double()
    assert float((found / 3000 - shares).abs().sum()) < 0.3, "of 2 at most, chance leaves some"


def test_stop_tokens_are_left_out_where_the_answer_may_not_stop_yet():
    logits = torch.tensor([[0.0, 5.0, 4.0, 1.0]])
    for how in (dict(), dict(temperature=0.7)):
        request = Request("a", [1], min_tokens=2, stop_ids=[1, 2, 900], **how)
        early = {choose(logits, [request], [place])[0] for place in range(2)}
        assert early <= {0, 3}
        assert choose(logits, [request], [2])[0] in (1, 2)
    greedy = [Request(i, [1], min_tokens=n, stop_ids=[1]) for i, n in enumerate((0, 1, 0))]
    assert choose(logits.repeat(3, 1), greedy, [0, 0, 0]) == [1, 2, 1]
    assert logits.tolist() == [[0.0, 5.0, 4.0, 1.0]], "the model's logits stay as they were"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_a_finite_largest_number_is_refused(temperature):
    request = Request("a", [1], min_tokens=1, stop_ids=[0, 1], temperature=temperature)
    with pytest.raises(ValueError, match="request 'a': the largest logit is -inf"):
        choose(torch.zeros(1, 2), [request], [0])
    with pytest.raises(ValueError, match="request 'a': the largest logit is inf"):
        choose(torch.tensor([[0.0, math.inf, 1.0]]), [request], [1])
    with pytest.raises(ValueError, match=r"not a number \(NaN\)"):
        choose(torch.tensor([[math.nan, 1.0, 1.0]]), [request], [0])


def test_log_probabilities_are_the_models_whatever_is_drawn():
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(2))
    logits[0, 7] = logits[0, 3] = 9.0
    requests = [
        Request(0, [1], logprobs=2),
        Request(1, [1]),
        Request(2, [1], logprobs=0, temperature=3.0, top_k=1),
        Request(3, [1], logprobs=99, min_tokens=3, stop_ids=[5]),
    ]
    first, none, chosen, everything = logprobs_of(logits, requests, [3, 0, 11, 5])
    assert none is None
    assert [token for token, _ in first.top] == [3, 7], "of equals, the smaller number comes first"
    logs = logits.log_softmax(-1)
    assert first.logprob == first.top[0][1] == pytest.approx(float(logs[0, 3]))
    assert (chosen.token_id, chosen.top) == (11, ())
    assert chosen.logprob == pytest.approx(float(logs[2, 11]))
    assert sum(math.exp(value) for _, value in everything.top) == pytest.approx(1.0)
    assert dict(everything.top)[5] == everything.logprob
    alone = [logprobs_of(logits[i : i + 1], requests[i : i + 1], [3])[0] for i in (0, 3)]
    assert alone[0] == first, "no row depends on another"
    assert alone[1].top == everything.top
