"""KVCacheReuse: tokens as without it, whatever is shared, pinned and evicted; stored values belong to their tokens."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import KVCache
from helpers.caches import KVCacheReuse
from helpers.model import FlatBatch, generate
from tests.tiny import reference, twin

MODEL = twin(reference("llama wide heads"))
SYSTEM = [7, 3, 9, 1, 4, 4, 2, 8, 6, 5, 11, 12]


def adds_up(store):
    tree = store.tree
    assert store.store.free + tree.evictable + tree.pinned == store.store.capacity
    held = [page for node in tree.nodes() for page in node.pages]
    assert len(set(held)) == len(held), "no page twice"
    assert set(held) <= set(range(store.store.capacity))


def no_page_is_lost(store):
    """A text as long as the store takes every page, once nothing is pinned."""
    capacity = store.store.capacity
    store.store.keep([90] * (capacity * store.tree.page_size), salt="a long text")
    assert sorted(page for node in store.tree.nodes() for page in node.pages) == list(range(capacity))


def values_are_those_of(store, text, salt=None):
    """What is stored of a text is what the model computes for it."""
    known = text[: store.tree.peek(text, salt)]
    if not known:
        return
    fresh = KVCache.for_model(MODEL, 1, len(known))
    MODEL(FlatBatch.pack([known]), fresh)
    cache_id, reused = store.get_or_create_cache(known, salt, room=0)
    assert reused == len(known), "all of it is read from the store"
    for stored, computed in zip(whole(store.get(cache_id)), whole(fresh), strict=True):
        torch.testing.assert_close(stored, computed, atol=1e-4, rtol=0)
    store.release(cache_id)


def whole(row):
    """All keys and values that a row holds, layer by layer."""
    return [part for layer in range(row.num_layers) for part in row.get(layer, 0)]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    page_size=st.sampled_from([1, 2, 4]),
    capacity=st.integers(4, 90),
    policy=st.sampled_from(["lru", "lfu", "fifo"]),
)
def test_tokens_are_those_of_the_plain_path(seed, page_size, capacity, policy):
    """Random conversations with shared beginnings, several salts, prefixes in use, and forced eviction."""
    rng = random.Random(seed)
    store, talks, live = KVCacheReuse(MODEL, capacity, page_size, policy), [], []
    for _ in range(12):
        salt = rng.choice(["a", "b"])
        prefix = rng.choice(talks)[1] if talks and rng.random() < 0.4 else SYSTEM[: rng.randrange(13)]
        more = [rng.randrange(97) for _ in range(rng.randrange(1, 6))]
        if rng.random() < 0.25 and prefix:
            cache_id, reused = store.get_or_create_cache(prefix, salt)
            assert reused <= len(prefix)
            assert store.get(cache_id).seq_lens == [len(prefix)]
            live.append(cache_id)
        if live and rng.random() < 0.2:
            store.release(live.pop(rng.randrange(len(live))))
        got = store.generate_with_reuse(MODEL, prefix, more, 4, salt=salt)
        plain = generate(MODEL, [*prefix, *more], 4)
        assert got.token_ids == plain.token_ids
        assert got.tokens_computed <= len(prefix) + len(more) + 3
        talks.append((salt, [*prefix, *more, *got.token_ids]))
        adds_up(store)
    for salt, text in talks:
        values_are_those_of(store, text, salt)
    for cache_id in live:
        store.release(cache_id)
    assert store.tree.pinned == 0
    no_page_is_lost(store)


def test_200_requests_under_eviction():
    rng, store = random.Random(5), KVCacheReuse(MODEL, 64, 4)
    for _ in range(200):
        prompt = SYSTEM[: rng.choice([4, 8, 12])] + [rng.randrange(5) for _ in range(rng.randrange(1, 9))]
        got = store.generate_with_reuse(MODEL, prompt, [], 2)
        assert got.token_ids == generate(MODEL, prompt, 2, KVCache.for_model(MODEL, 1, 40)).token_ids
        adds_up(store)
    assert store.tree.stats().evicted_pages > 20
    assert store.stats.requests == 200
    assert 0.3 < store.stats.hit_rate < 1


def test_a_conversation_computes_only_what_is_new():
    store = KVCacheReuse(MODEL, 400, page_size=1)
    first = store.generate_with_reuse(MODEL, SYSTEM, [20, 21], 3)
    assert first.tokens_computed == len(SYSTEM) + 2 + 2
    text = [*SYSTEM, 20, 21, *first.token_ids]
    second = store.generate_with_reuse(MODEL, text, [30], 3)
    assert second.tokens_computed == 2 + 2, "the answer's last token was never computed, and the new one"
    assert second.token_ids == generate(MODEL, [*text, 30], 3).token_ids


def test_the_last_token_is_always_computed():
    store = KVCacheReuse(MODEL, 400, page_size=4)
    first = store.generate_with_reuse(MODEL, SYSTEM, [], 1)
    again = store.generate_with_reuse(MODEL, SYSTEM, [], 1)
    assert (first.tokens_computed, again.tokens_computed) == (12, 4), "its page, as the page is the unit"
    assert again.token_ids == first.token_ids


def test_no_continuation_leaks_into_a_shared_prefix():
    store = KVCacheReuse(MODEL, 400, page_size=1)
    cache_id, reused = store.get_or_create_cache(SYSTEM)
    assert reused == 0
    mine = store.get(cache_id)
    for cache in (mine.k, mine.v):
        cache.fill_(9.0)  # the row is the caller's own
    values_are_those_of(store, SYSTEM)
    for more in ([1, 2], [3, 4], [1, 2, 3]):
        got = store.generate_with_reuse(MODEL, SYSTEM, more, 3)
        assert got.token_ids == generate(MODEL, [*SYSTEM, *more], 3).token_ids


def test_what_is_in_use_is_not_evicted():
    store = KVCacheReuse(MODEL, 16, page_size=4)
    cache_id, _ = store.get_or_create_cache(SYSTEM)
    for i in range(20):
        store.generate_with_reuse(MODEL, [50 + i] * 9, [], 1)
        adds_up(store)
    assert store.tree.pinned == 3
    assert store.get_or_create_cache(SYSTEM)[1] == 12
    store.release(cache_id)
    assert store.tree.pinned == 3, "the second one holds it still"
    store.release(cache_id + 1)
    assert store.tree.pinned == 0
    for i in range(5):
        store.generate_with_reuse(MODEL, [50 + i] * 9, [], 1)
    assert store.tree.peek(SYSTEM) < 12


def test_salts_share_nothing():
    store = KVCacheReuse(MODEL, 400, page_size=1)
    store.generate_with_reuse(MODEL, SYSTEM, [1], 1, salt="a")
    assert store.generate_with_reuse(MODEL, SYSTEM, [1], 1, salt="b").tokens_computed == 13
    assert store.generate_with_reuse(MODEL, SYSTEM, [1], 1, salt="a").tokens_computed == 1


def test_a_failed_request_leaves_nothing_pinned(monkeypatch):
    store = KVCacheReuse(MODEL, 64, page_size=4)
    store.generate_with_reuse(MODEL, SYSTEM, [1], 1)
    monkeypatch.setattr(MODEL.layers[1].mlp, "forward", lambda x: 1 / 0)
    for call in (
        lambda: store.generate_with_reuse(MODEL, SYSTEM, [2], 1),
        lambda: store.get_or_create_cache([*SYSTEM, 5]),
    ):
        with pytest.raises(ZeroDivisionError):
            call()
        assert store.tree.pinned == 0
        adds_up(store)


def test_misuse_is_named():
    store = KVCacheReuse(MODEL, 64, page_size=4)
    with pytest.raises(ValueError, match="another model's"):
        store.generate_with_reuse(twin(reference("llama")), SYSTEM, [1])
    with pytest.raises(ValueError, match="are empty"):
        store.generate_with_reuse(MODEL, [], [])
    with pytest.raises(ValueError, match="the prefix is empty"):
        store.get_or_create_cache([])
    with pytest.raises(ValueError, match="max_new_tokens"):
        store.generate_with_reuse(MODEL, SYSTEM, [1], 0)
    with pytest.raises(ValueError, match="no cache has the id 3"):
        store.release(3)
    with pytest.raises(ValueError, match="a page of 16 tokens or more"):
        KVCacheReuse(MODEL, 15)
    assert store.tree.pinned == 0
    cache = KVCache.for_model(MODEL, 1, 8)
    with pytest.raises(ValueError, match="3 prompt tokens 3 cannot be cached"):
        generate(MODEL, [1, 2, 3], 1, cache, cached=3)


def test_a_row_has_the_room_that_it_promises():
    model = twin(reference("llama"))
    store = KVCacheReuse(model, 256, 16)
    prefix = list(range(1, 33))
    row = store.get(store.get_or_create_cache(prefix, room=3)[0])
    for token in (5, 6, 7):
        model(FlatBatch.pack([[token]], [int(row.seq_lens[0])]), row)
    with pytest.raises(ValueError, match="35"):
        model(FlatBatch.pack([[8]], [35]), row)
    with pytest.raises(ValueError, match="0 tokens or more, got -1"):
        store.get_or_create_cache(prefix, room=-1)
