"""Int8PagedKVCache: what a plain loop over codes and scales gives, whatever is shared, copied, freed or poisoned."""

import re
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig

from helpers.caches import Int8KVCache, Int8PagedKVCache, OutOfPages, PagedKVCache
from helpers.estimates import GB, MemoryCalculator, NumberFormat, bytes_per_element, kv_cache_bytes
from helpers.model import Cache, FlatBatch, ModelShape, NoCache, checkpoint, generate
from tests.tiny import CONFIGS, reference, twin
from tools.notebooks import ROOT

MODEL = twin(reference("qwen3"), torch.float64)
"""In fp64: a key so near the border between two codes that the order of a sum decides does not occur."""

INT8_HEADS = NumberFormat(8, 64, "none", "bf16")
"""A head of 64 numbers shares one bf16 scale."""


class Rounded(Cache):
    """The definition: every key and value is rounded to its code, then attention is the plain one over whole texts."""

    def __init__(self):
        self.plain = NoCache()

    def prepare(self, batch):
        self.plain.prepare(batch)

    def attend(self, layer_idx, q, k, v, batch):
        return self.plain.attend(layer_idx, q, *(rounded(t) for t in (k, v)), batch)

    def commit(self, batch):
        self.plain.commit(batch)


def rounded(x):
    """Each head's numbers in steps of a 127th of the largest, as nearly as bf16 has it, by numpy in fp32."""
    wide = x.float().numpy()
    bits = (np.abs(wide).max(-1, keepdims=True) / np.float32(127)).view(np.uint32)
    step = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)  # to the nearest, ties to even
    return torch.from_numpy(np.rint(wide / step) * step).to(x.dtype)


def whole(text, last=1, model=MODEL):
    """What the definition says of the last tokens."""
    return model(FlatBatch.pack([text]), Rounded(), logits="all")[-last:]


def poisoned(num_pages=40, page_size=4, sharing=True, model=MODEL):
    """A cache in which unwritten slots would be seen."""
    cache = Int8PagedKVCache.for_model(model, num_pages, page_size, sharing)
    cache.k.fill_(99), cache.v.fill_(-99)
    cache.k_scale.fill_(float("nan")), cache.v_scale.fill_(float("nan"))
    return cache


@pytest.mark.parametrize(
    ("name", "page_size"), [*((name, 16) for name in CONFIGS), ("qwen3", 1), ("qwen3", 128)]
)
def test_greedy_tokens_equal_the_definitions(name, page_size):
    model, text = twin(reference(name), torch.float64), [5, 96, 3, 3, 41, 12, 17]
    got = generate(model, text, 8, poisoned(40, page_size, model=model))
    for token in got.token_ids:
        assert token == int(whole(text, model=model).argmax())
        text = [*text, token]


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_interleaving_equals_whole_passes(data):
    """Prompts that share beginnings, chunks, forks, frees, passes that fail: every logit is the definition's."""
    page_size = data.draw(st.sampled_from([1, 2, 3, 4]))
    cache = poisoned(36, page_size, sharing=data.draw(st.booleans()))
    common = list(range(20, 33))
    texts: dict[int, list[int]] = {}
    for name in range(data.draw(st.integers(2, 7))):
        action = data.draw(st.sampled_from(["new", "new", "free", "fork", "fail"]))
        if action == "free" and texts:
            gone = data.draw(st.sampled_from(sorted(texts)))
            cache.free_request(gone)
            del texts[gone]
        if action == "fork" and texts:
            parent = data.draw(st.sampled_from(sorted(texts)))
            cache.fork(parent, name)
            texts[name] = list(texts[parent])
        waiting = {}
        if action == "new":
            own = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
            prompt = common[: data.draw(st.integers(0, 13))] + own
            texts[name] = prompt[: cache.allocate_request(name, prompt)]
            waiting[name] = prompt[len(texts[name]) :]
        others = [n for n in texts if n not in waiting and data.draw(st.booleans())]
        waiting |= {n: data.draw(st.lists(st.integers(0, 96), min_size=1, max_size=3)) for n in others}
        if not waiting:
            continue
        batch = FlatBatch.pack(list(waiting.values()), [len(texts[n]) for n in waiting], list(waiting))
        if action == "fail":
            with suppress(OutOfPages):
                cache.prepare(batch)
        try:
            got = MODEL(batch, cache, logits="all")
        except OutOfPages:
            assert {n: cache.pool.length(n) for n in texts} == {n: len(t) for n, t in texts.items()}
            continue
        for n, more in waiting.items():
            texts[n] += more
        want = torch.cat([whole(texts[n], len(more)) for n, more in waiting.items()])
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_a_page_that_is_copied_takes_its_scales_along():
    cache, text = poisoned(), [1, 2, 3, 4, 5, 6]
    MODEL(FlatBatch.pack([text], seq_ids=["a"]), cache)
    cache.fork("a", "b")
    got = MODEL(FlatBatch.pack([[7], [8]], [6, 6], ["a", "b"]), cache)
    torch.testing.assert_close(got, torch.cat([whole([*text, t]) for t in (7, 8)]), atol=1e-4, rtol=0)
    assert cache.pool.stats().copies == 1


def test_bytes_are_codes_and_scales_and_the_same_memory_holds_3_88_times_the_tokens():
    """A head of 64 numbers: 64 bytes and a scale of 2, where fp32 has 256."""
    sizes = dict(num_layers=2, page_size=16, num_kv_heads=3, head_dim=64)
    plain, small = PagedKVCache(**sizes, num_pages=66), Int8PagedKVCache(**sizes, num_pages=256)
    each = bytes_per_element("int8", group_size=64, scale_bits=16, zero_point_bits=0)
    for cache, bytes_each in ((plain, 4), (small, each)):
        assert cache.nbytes == cache.capacity * 2 * 2 * 3 * 64 * bytes_each
    assert small.nbytes == plain.nbytes
    shape = ModelShape.from_hf(LlamaConfig(hidden_size=192, num_attention_heads=3, num_hidden_layers=2))
    assert kv_cache_bytes(shape, 1, small.capacity, INT8_HEADS) == small.nbytes
    gigabytes = MemoryCalculator().calculate_kv_cache(1, small.capacity, 192, 2, INT8_HEADS)
    assert gigabytes * GB == small.nbytes
    assert small.capacity >= 3.8 * plain.capacity
    assert round(small.capacity / plain.capacity, 2) == 3.88
    rows = Int8KVCache(2, 5, 100, 3, 64)
    assert rows.nbytes == 5 * 100 * 2 * 2 * 3 * 64 * each


def test_by_hand_numbers_come_back_within_half_a_step():
    cache = Int8PagedKVCache(num_layers=2, page_size=16, num_pages=12, num_kv_heads=2, head_dim=8)
    cache.allocate_request("a", 100)
    k, v = torch.randn(2, 100, 2, 8) * torch.tensor([1.0, 30.0]).view(2, 1, 1, 1)
    cache.write("a", 1, k[:60], v[:60], 0)
    cache.write("a", 1, k[60:], v[60:], 60)
    for got, exact in zip(cache.get_kv("a", 1), (k, v), strict=True):
        step = (exact.abs().amax(-1, keepdim=True) / 127).bfloat16().float()
        assert ((got - exact).abs() <= 0.5001 * step).all()
        assert torch.equal(got.abs().amax(-1), 127 * step[..., 0]), "the largest number has the last code"
    assert not cache.get_kv("a", 0)[0].any(), "layers are apart"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.attend(0, *(torch.zeros(1, 2, 16).double(),) * 3, FlatBatch.pack([[1]])), "after prepare"),
        (lambda c: c.attend(0, *(torch.zeros(1, 2, 16).half(),) * 3, FlatBatch.pack([[1]])), "takes torch.float64"),
        (lambda c: c.write("a", 0, *(torch.zeros(1, 2, 15),) * 2, 0), "expected k and v"),
    ],
)  # fmt: skip
def test_misuse_is_named(call, words):
    cache = Int8PagedKVCache.for_model(MODEL, 8, 4)
    MODEL(FlatBatch.pack([[1, 2, 3, 4, 5]], seq_ids=["a"]), cache)
    before = [t.clone() for t in (cache.k, cache.v, cache.k_scale, cache.v_scale)]
    with pytest.raises(ValueError, match=re.escape(words)):
        call(cache)
    assert all(map(torch.equal, before, (cache.k, cache.v, cache.k_scale, cache.v_scale)))


def test_the_models_logits_hardly_move():
    """KL(fp32 || int8 cache) on the first 128 tokens of the course's licence: at most 0.01 nats a token."""
    loaded = checkpoint.load()
    model, tokenizer = loaded.model, loaded.tokenizer
    tokens = tokenizer((ROOT / "LICENSE").read_text()).input_ids[:128]
    batch = FlatBatch.pack([tokens])
    plain, small = (
        model(batch, cache, logits="all").log_softmax(-1)
        for cache in (None, Int8PagedKVCache.for_model(model, 8))
    )
    divergence = (plain.exp() * (plain - small)).sum(-1).mean()
    assert 0 < divergence <= 0.01
