"""A drawn answer goes on elsewhere, in other company: from its tokens so far it is the same, but for roundings at an edge.

Kernels may sum in another order for another batch, so that logits differ in their last bits. A draw chooses the token in
whose part of the summed weights a random number falls. Only a number that lies within the rounding of an edge may choose
another token. Anything else would be a fault: a wrong place, seed, text or penalty.
"""

import random

import numpy as np
import pytest
import torch

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, Request, batching, choose, kept_tokens
from tests.tiny import reference, twin

COUNT, NEW, ROUNDING = 16, 24, 1e-4
"""Requests of each kind, tokens of an answer, and how far apart two passes' logits may be."""
KINDS = {
    "all": dict(temperature=1.0),
    "top k": dict(temperature=1.3, top_k=8),
    "top p": dict(temperature=2.0, top_p=0.9),
    "both, no stop yet": dict(temperature=0.8, top_k=20, top_p=0.95, stop_ids=[5, 6], min_tokens=NEW - 1),
}


@pytest.fixture(scope="module")
def model():
    return twin(reference("llama"))


@pytest.fixture
def rows(monkeypatch):
    """The logits from which each token of each request was chosen."""
    kept = {}

    def noted(logits, requests, places):
        for row, request, place in zip(logits, requests, places, strict=True):
            kept[request.request_id, place] = row.clone()
        return choose(logits, requests, places)

    monkeypatch.setattr(batching, "choose", noted)
    return kept


def serve(model, request, rng=None):
    """A request's answer; with `rng` among other requests, in an engine of other sizes."""
    rng = rng or random.Random(0)
    company = rng.randrange(12) if request.answered else 0
    cache = PagedKVCache.for_model(model, 400, rng.choice((4, 16)))
    engine = ContinuousBatcher(model, cache, 16, rng.choice((24, 64)))
    for i in range(company):
        prompt = [rng.randrange(97) for _ in range(rng.randrange(1, 40))]
        engine.add_request(Request(("other", i), prompt, rng.randrange(1, 30)))
    for _ in range(rng.randrange(4)):
        engine.process_batch()
    engine.add_request(request)
    engine.run()
    return engine.finished[request.request_id].token_ids


def shares(row, request):
    """For each token of the vocabulary, the share of the weight of all kept tokens up to it."""
    tokens, weights = kept_tokens(row.numpy(), request)
    found = np.zeros(len(row))
    found[tokens] = weights
    return found.cumsum() / found.sum(), set(tokens.tolist())


def off_edge(one, other, request, place, token):
    """How far the draw's number lies from the part of `token`, beyond what roundings explain; 0 or less is explained.

    Two logits' difference of d moves a share by at most 2 d / temperature. A token that only one row keeps moves
    edges by its own share.
    """
    generator = torch.Generator().manual_seed((request.seed * 1_000_003 + place) % 2**63)
    number = float(torch.rand((), dtype=torch.float64, generator=generator))
    (edges, kept), (others, kept_too) = shares(one, request), shares(other, request)
    low, high = (edges[token - 1] if token else 0.0), edges[token]
    outside = max(low - number, number - high, 0.0)
    inside = min(number - low, high - number) if outside == 0 else 0.0
    moved = 2 * float((one - other).abs().max()) / request.temperature
    parts = [np.diff(share, prepend=0.0)[list(kept ^ kept_too)].sum() for share in (edges, others)]
    return max(outside, inside) - moved - sum(parts) - 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_goes_on_is_the_same_but_for_roundings_at_an_edge(model, rows, kind):
    differing = []
    for seed in range(COUNT):
        rng = random.Random(f"{kind} {seed}")
        prompt = [rng.randrange(97) for _ in range(rng.randrange(1, 30))]
        whole = serve(model, Request(("whole", seed), prompt, NEW, seed=seed, **KINDS[kind]))
        known = rng.randrange(1, len(whole) - 1)
        rest = Request(("rest", seed), prompt, NEW, seed=seed, answered=whole[:known], **KINDS[kind])
        found = serve(model, rest, rng)
        for place in range(known, len(whole)):
            one, other = rows[("whole", seed), place], rows[("rest", seed), place]
            assert float((one - other).abs().max()) <= ROUNDING, (seed, place)
            if whole[place] != found[place]:
                differing.append((seed, place))
                assert off_edge(one, other, rest, place, whole[place]) <= 0, (seed, place)
                break  # from here on the two answers are different texts
        else:
            assert found == whole
    assert len(differing) <= 1, differing


@pytest.mark.parametrize("kind", ["all", "top k", "top p"])
def test_a_rounding_changes_few_draws_and_each_at_an_edge(kind):
    """Rows with noise that is large for a rounding, so that draws do differ; a draw of another place is no rounding."""
    generator, differing, unexplained, count = torch.Generator().manual_seed(7), 0, 0, 1200
    for seed in range(count):
        row = torch.randn(500, generator=generator) * 2
        near = row + (torch.rand(500, generator=generator) - 0.5) * 4e-3
        request = Request("x", [1], seed=seed, **KINDS[kind])
        one, other = choose(torch.stack([row, near]), [request, request], [3, 3])
        if one != other:
            differing += 1
            assert off_edge(row, near, request, 3, one) <= 0, seed
        (wrong,) = choose(row[None], [request], [4])
        unexplained += wrong != one and off_edge(row, near, request, 3, wrong) > 0
    assert 0 < differing <= count // 25
    assert unexplained > count // 2
