"""Prefix reuse, pages and continuous batching on the emulated NPU: the tokens of the CPU, through the fused operators."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from helpers import KVCacheReuse, PagedKVCache, emulated_npu
from helpers.engine import ContinuousBatcher, Request
from helpers.machine import choose_device
from helpers.model import FlatBatch, generate
from tests.tiny import reference, twin

COMMON = [11, 22, 33, 44, 55, 66, 77, 88, 9, 10] * 4


@pytest.fixture(scope="module")
def models():
    """The same weights on the device and on the CPU."""
    return twin(reference("qwen3")).to(choose_device("emulated-npu")), twin(reference("qwen3"))


def ragged(count, max_tokens=6):
    """Seeded requests, some with a common beginning."""
    rng = random.Random(3)
    for i in range(count):
        own = [rng.randrange(97) for _ in range(rng.randrange(1, 40))]
        yield Request(i, COMMON[: rng.choice((0, 18, 40))] + own, rng.randrange(2, max_tokens))


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo"])
def test_reuse_gives_the_cpus_tokens_while_pages_are_evicted(models, policy):
    there, ours = models
    store = KVCacheReuse(there, 160, page_size=8, policy=policy)
    for request in [*ragged(8)] * 2:
        answer = store.generate_with_reuse(there, request.prompt_ids, [], request.max_tokens)
        assert answer.token_ids == generate(ours, request.prompt_ids, request.max_tokens).token_ids
    assert store.stats.reused_tokens > 0
    assert store.tree.stats().evicted_pages > 0


@pytest.mark.parametrize("page_size", [16, 128])
def test_samples_fork_on_the_device(models, page_size):
    """One prompt, four seeded answers: those of the CPU."""
    answers = []
    for model in models:
        engine = ContinuousBatcher(model, PagedKVCache.for_model(model, 24, page_size))
        engine.add_samples(Request("q", COMMON[:21], 6, temperature=2.0, seed=3), 4)
        answers.append({name: state.token_ids for name, state in engine.run().items()})
        assert engine.cache.pool.stats().copies == 3
    assert answers[0] == answers[1]
    assert len(set(map(tuple, answers[0].values()))) > 1


@pytest.mark.parametrize("page_size", [16, 128])
@pytest.mark.parametrize("seats", [2, 8])
def test_every_request_of_a_batch_gets_the_cpus_tokens(models, page_size, seats):
    """The pool is small enough for preemption at page size 16."""
    there, ours = models
    cache = PagedKVCache.for_model(there, 14 if page_size == 16 else 5, page_size)
    engine = ContinuousBatcher(there, cache, max_batch_size=seats, token_budget=48, chunk_size=20)
    asked = list(ragged(8, 30))
    for request in asked:
        engine.add_request(request)
    done = engine.run()
    for request in asked:
        want = generate(ours, request.prompt_ids, request.max_tokens).token_ids
        assert done[request.request_id].token_ids == want
    if seats == 8 and page_size == 16:
        assert sum(state.preemptions for state in done.values()) > 0
    assert sum(state.cached_tokens for state in done.values()) > 0 or page_size == 128
    assert cache.pool.num_used == 0


def test_a_fork_copies_the_shared_page_on_the_device(models):
    there, ours = models
    prompt, cache = COMMON[:21], PagedKVCache.for_model(there, 8, 16)
    there(FlatBatch.pack([prompt], seq_ids=["a"], device=there.device), cache)
    cache.fork("a", "b")
    batch = FlatBatch.pack([[5], [6]], [21, 21], ["a", "b"], device=there.device)
    got, want = there(batch, cache).cpu(), ours(FlatBatch.pack([[*prompt, 5], [*prompt, 6]]))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    tables = [cache.pool.table(name) for name in "ab"]
    assert tables[0][0] == tables[1][0]
    assert tables[0][1] != tables[1][1]


@pytest.mark.parametrize(("page_size", "chunk", "calls"), [(16, [7], 1), (128, [7], 1), (128, COMMON[:9], 2)])
def test_a_pass_in_bf16_goes_through_the_paged_operators(models, page_size, chunk, calls):
    """Written by page, attended by block table, no page gathered first; a decode step is one call for all requests."""
    device = choose_device("emulated-npu")
    model = twin(reference("qwen3"), torch.bfloat16).to(device)
    cache = PagedKVCache.for_model(model, 8, page_size)
    model(FlatBatch.pack([COMMON[:20], COMMON[:6]], seq_ids=["a", "b"], device=device), cache)
    batch = FlatBatch.pack([[5], chunk], [20, 6], ["a", "b"], device=device)
    with emulated_npu.trace() as launched:
        got = model(batch, cache).cpu()
    want = models[1](FlatBatch.pack([[*COMMON[:20], 5], [*COMMON[:6], *chunk]]))
    assert (got - want).abs().max() < 0.1, "bf16 has 8 bits; these logits reach 2.5"
    names, layers = Counter(launched), model.cfg.num_layers
    assert sum(n for name, n in names.items() if "ScatterPaKvCache" in name) == layers
    assert sum(n for name, n in names.items() if "FusedInferAttentionScore" in name) == layers * calls
    assert names["aclnnIndex"] <= 1, "the last rows are picked; pages are not"
    assert not [name for name in names if "Softmax" in name]
