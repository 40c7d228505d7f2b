"""Int8KVCache: rows in 8 bits hold what pages in 8 bits hold."""

import pytest
import torch

from helpers.caches import Int8KVCache, Int8PagedKVCache, KVCache
from helpers.model import FlatBatch, generate
from tests.caches.int8.test_paged import MODEL, rounded, whole


def poisoned(rows=3, length=40):
    cache = Int8KVCache.for_model(MODEL, rows, length)
    cache.k.fill_(99), cache.v.fill_(-99)
    cache.k_scale.fill_(float("nan")), cache.v_scale.fill_(float("nan"))
    return cache


def test_ragged_rows_in_chunks_equal_the_definition():
    cache, texts = poisoned(), [[5, 4, 3], [9] * 9, [7, 8]]
    MODEL(FlatBatch.pack([t[:2] for t in texts], seq_ids=[2, 0, 1]), cache)
    got = MODEL(FlatBatch.pack([texts[1][2:], texts[0][2:]], [2, 2], [0, 2]), cache)
    torch.testing.assert_close(got, torch.cat([whole(texts[1]), whole(texts[0])]), atol=1e-4, rtol=0)
    got = MODEL(FlatBatch.pack([[1], [2], [3]], [9, 2, 3], [0, 1, 2]), cache)
    want = [whole([*texts[1], 1]), whole([*texts[2], 2]), whole([*texts[0], 3])]
    torch.testing.assert_close(got, torch.cat(want), atol=1e-4, rtol=0)


def test_rows_and_pages_give_one_answer():
    prompt = [11, 22, 33, 44]
    answers = [
        generate(MODEL, prompt, 12, cache).token_ids
        for cache in (poisoned(1), Int8PagedKVCache.for_model(MODEL, 8, 4))
    ]
    assert answers[0] == answers[1]


def test_by_hand_and_restored_rows_hold_rounded_numbers():
    cache = Int8KVCache(2, 2, 10, 3, 8)
    k, v = torch.randn(2, 2, 3, 4, 8)
    for layer in (0, 1):
        cache.update(layer, k, v, [[0, 1, 2, 3]] * 2)
        cache.update(layer, k[:, :, :1] * 9, v[:, :, :1], [[2]] * 2)
    assert cache.seq_lens == [3, 3]
    got_k, got_v = cache.get(1, 1)
    torch.testing.assert_close(got_k, rounded(torch.cat([k[1, :, :2], k[1, :, :1] * 9], 1).contiguous()))
    torch.testing.assert_close(got_v, rounded(torch.cat([v[1, :, :2], v[1, :, :1]], 1).contiguous()))
    other = Int8KVCache(2, 1, 10, 3, 8)
    other.restore(0, torch.stack([k[0], k[1]]), torch.stack([v[0], v[1]]))
    torch.testing.assert_close(other.get(1, 0)[0], rounded(k[1].contiguous()))
    assert other.seq_lens == [4]


def test_misuse_is_named():
    cache = Int8KVCache(1, 1, 4, 1, 4)
    with pytest.raises(ValueError, match=r"the cache is torch\.float32 on cpu, got torch\.int8"):
        cache.update(0, *(torch.zeros(1, 1, 1, 4, dtype=torch.int8),) * 2, [[0]])
    with pytest.raises(ValueError, match="after prepare"):
        cache.attend(0, *(torch.zeros(1, 1, 4),) * 3, FlatBatch.pack([[1]], seq_ids=[0]))
    with pytest.raises(ValueError, match=r"takes torch\.float32"):
        cache.attend(0, *(torch.zeros(1, 1, 4).half(),) * 3, FlatBatch.pack([[1]], seq_ids=[0]))
    with pytest.raises(ValueError, match="floating-point"):
        Int8KVCache(1, 1, 4, 1, 4, dtype=torch.int8)
    assert cache.nbytes == 2 * 4 * (4 + 2)
    assert KVCache(1, 1, 4, 1, 4).nbytes == 2 * 4 * 4 * 4
