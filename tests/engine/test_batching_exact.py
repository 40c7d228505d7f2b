"""Sixty-four ragged requests through every kind of disturbance at once: each one's greedy tokens are those of its own run."""

import functools
import random

import pytest

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, Request
from helpers.model import generate
from tests.tiny import reference, twin

COUNT = 64
BEGINNINGS = [[3] * 5, [*range(20, 57)], [*range(20, 40), *range(60, 90)]]
"""What some prompts share: one of them is a part of another."""


@functools.cache
def model(name):
    return twin(reference(name))


@functools.cache
def requests():
    """Prompts of 1 to 90 tokens, answers of 1 to 24; some stop early, some begin alike, some are equal."""
    rng, made = random.Random(64), []
    for i in range(COUNT):
        own = [rng.randrange(97) for _ in range(rng.choice((1, 2, 5, 17, 40)))]
        prompt = rng.choice(([], *BEGINNINGS)) + own if i % 8 or not made else list(made[-1].prompt_ids)
        stops = [rng.randrange(97)] if i % 3 == 0 else []
        made.append(Request(i, prompt, rng.randrange(1, 25), stop_ids=stops))
    return made


@functools.cache
def alone(name):
    """Each request by itself, without any cache."""
    return [
        generate(model(name), r.prompt_ids, r.max_tokens, stop_ids=r.stop_ids).token_ids for r in requests()
    ]


def serve(name, sharing, page_size, pool_tokens, seed):
    """All requests, arriving at random between passes; budget, chunk and seats drawn by the seed."""
    rng = random.Random(seed)
    cache = PagedKVCache.for_model(model(name), -(-pool_tokens // page_size), page_size, sharing)
    cache.k.fill_(float("nan")), cache.v.fill_(float("nan"))  # unwritten slots must never count
    chunk, budget, seats = rng.choice((1, 3, 7, 16, 64)), rng.choice((16, 33, 128)), rng.choice((5, 12, 40))
    batcher = ContinuousBatcher(model(name), cache, seats, budget, chunk)
    coming = list(requests())
    rng.shuffle(coming)
    while len(batcher.finished) < COUNT:
        for _ in range(min(len(coming), rng.choice((0, 0, 1, 4)))):
            batcher.add_request(coming.pop())
        batcher.process_batch()
    return batcher


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("page_size", [1, 7, 16, 128])
@pytest.mark.parametrize("sharing", [True, False], ids=["shared", "private"])
@pytest.mark.parametrize("pool_tokens", [160, 4096], ids=["short", "ample"])
def test_every_request_gets_the_tokens_of_its_own_run(sharing, page_size, pool_tokens, seed):
    batcher = serve("llama", sharing, page_size, max(pool_tokens, page_size), seed)
    check(batcher, "llama")
    states = batcher.finished.values()
    if pool_tokens == 4096:
        assert not any(state.preemptions for state in states)
    elif page_size < 128:  # two pages of 128 hold two requests, which then never run out
        assert sum(state.preemptions for state in states) > 0, "this pool is meant to be too small"
    if sharing and page_size < 128 and pool_tokens == 4096:
        assert sum(state.cached_tokens for state in states) > 0
    if not sharing:
        assert not any(state.cached_tokens for state in states)


@pytest.mark.parametrize("name", ["qwen3 tied, biases", "llama 3 rope"])
def test_other_architectures(name):
    check(serve(name, True, 16, 200, seed=5), name)


def check(batcher, name):
    """Tokens, reasons, counts, and an empty pool."""
    for request, tokens in zip(requests(), alone(name), strict=True):
        state = batcher.finished[request.request_id]
        assert state.token_ids == tokens, f"request {request.request_id}"
        assert state.finish_reason == ("stop" if tokens[-1] in request.stop_ids else "length")
    computed = sum(part.num_tokens for step in batcher.steps for part in step.parts)
    assert computed == sum(state.tokens_computed for state in batcher.finished.values())
    pool = batcher.cache.pool
    assert (pool.num_used, pool.num_free) == (0, batcher.cache.k.shape[1])
