"""The next token: the likeliest of each row, or one drawn with a seed, and nothing where there is no number."""

import math

import pytest
import torch

from helpers.engine import Request, choose


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
