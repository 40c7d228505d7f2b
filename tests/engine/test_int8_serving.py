"""The engine over an int8 cache: each request's tokens are those of a plain loop over a cache of its own, whatever the policy."""

import functools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.caches import Int8KVCache, Int8PagedKVCache
from helpers.engine import POLICIES, ContinuousBatcher, Request, StaticBatcher
from helpers.model import generate
from tests.tiny import reference, twin

MODEL = twin(reference("llama"), torch.float64)
"""In fp64: a key so near the border between two codes that the order of a sum decides does not occur."""
COMMON = [*range(20, 50)]


@functools.cache
def alone(prompt, max_tokens):
    """Return the tokens of a plain loop: rows of its own, one token a pass."""
    return generate(MODEL, list(prompt), max_tokens, Int8KVCache.for_model(MODEL, 1, 80)).token_ids


def made(count, seed):
    """Return requests of several clients; some begin alike, some are equal."""
    rng, found = random.Random(seed), []
    for i in range(count):
        own = [rng.randrange(97) for _ in range(rng.choice((1, 3, 9)))]
        prompt = COMMON[: rng.choice((0, 8, 21, 30))] + own if i % 5 or not found else found[-1].prompt_ids
        found.append(
            Request(
                i, list(prompt), rng.randrange(1, 14), client=f"client {i % 3}", priority=rng.randrange(3)
            )
        )
    return found


def serve(requests, policy, pages, page_size, rng, sharing=True, cancelled=()):
    """Serve requests that arrive between passes; return the batcher."""
    cache = Int8PagedKVCache.for_model(MODEL, pages, page_size, sharing)
    cache.k_scale.fill_(float("nan")), cache.v_scale.fill_(float("nan"))  # unwritten slots must never count
    chunk, budget, seats = rng.choice((1, 3, 7, 16)), rng.choice((16, 33)), rng.choice((5, 12))
    batcher = ContinuousBatcher(MODEL, cache, seats, budget, chunk, POLICIES[policy]())
    coming, gone = list(requests), set(cancelled)
    while coming or batcher.waiting or batcher.running:
        for _ in range(min(len(coming), rng.choice((0, 1, 4)))):
            batcher.add_request(coming.pop())
        batcher.process_batch()
        for name in gone & {state.name for state in (*batcher.waiting, *batcher.running)}:
            batcher.cancel(name)
    return batcher


def check(batcher, requests, cancelled=()):
    """Tokens of every request, and an empty pool."""
    for request in requests:
        tokens = batcher.finished[request.request_id].token_ids
        want = alone(tuple(request.prompt_ids), request.max_tokens)
        assert tokens == (want[: len(tokens)] if request.request_id in cancelled else want)
    assert batcher.cache.pool.num_used == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_with_preemption_and_sharing(policy):
    requests = made(18, seed=7)
    batcher = serve(requests, policy, 26, 4, random.Random(3))
    check(batcher, requests)
    states = batcher.finished.values()
    assert sum(state.preemptions for state in states) > 0, "this pool is meant to be too small"
    assert sum(state.cached_tokens for state in states) > 0, "prompts are meant to be shared"


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_any_pool_any_policy_any_cancellation(data):
    seed = data.draw(st.integers(0, 2**16))
    requests = made(data.draw(st.integers(2, 8)), seed)
    cancelled = data.draw(st.sets(st.integers(0, 9), max_size=2))
    page_size = data.draw(st.sampled_from([1, 4, 16]))
    pages = -(-data.draw(st.integers(56, 200)) // page_size)
    policy = data.draw(st.sampled_from(sorted(POLICIES)))
    batcher = serve(
        requests, policy, pages, page_size, random.Random(seed), data.draw(st.booleans()), cancelled
    )
    check(batcher, requests, cancelled)


def test_forked_samples_and_static_batches():
    prompt = COMMON[:11]
    engine = ContinuousBatcher(MODEL, Int8PagedKVCache.for_model(MODEL, 40, 4))
    engine.add_samples(Request("q", prompt, 9), 3)
    assert [state.token_ids for state in engine.run().values()] == [alone(tuple(prompt), 9)] * 3
    assert engine.cache.pool.stats().copies == 2
    static = StaticBatcher(MODEL, Int8PagedKVCache.for_model(MODEL, 60, 4))
    requests = made(4, seed=2)
    for request in requests:
        static.add_request(request)
    static.run()
    for request in requests:
        assert static.finished[request.request_id].token_ids == alone(
            tuple(request.prompt_ids), request.max_tokens
        )
