"""PagedKVCache: exact in a model whatever is shared, copied, freed or poisoned."""

import re
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.caches import OutOfPages, PagedKVCache
from helpers.model import FlatBatch, NoCache, generate
from tests.tiny import CONFIGS, reference, twin

MODEL = twin(reference("qwen3"))


def logits_of(text, last):
    """What the plain path says of the last tokens."""
    return MODEL(FlatBatch.pack([text]), NoCache(), logits="all")[-last:]


def poisoned(num_pages=40, page_size=4, sharing=True, model=MODEL):
    cache = PagedKVCache.for_model(model, num_pages, page_size, sharing)
    cache.k.fill_(float("nan"))
    cache.v.fill_(float("nan"))
    return cache


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("page_size", [1, 16, 32, 64, 128])
def test_greedy_tokens_equal_no_cache(name, page_size):
    model, prompt = twin(reference(name)), [5, 96, 3, 3, 41, 12, 17]
    got = generate(model, prompt, 20, poisoned(40, page_size, model=model))
    assert got.token_ids == generate(model, prompt, 20).token_ids
    assert got.tokens_computed == len(prompt) + 19


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_interleaving_equals_whole_passes(data):
    """Prompts that share beginnings, chunks, forks, frees, passes that fail: every logit is the plain path's."""
    page_size = data.draw(st.sampled_from([1, 2, 3, 4]))
    cache = poisoned(48, page_size, sharing=data.draw(st.booleans()))
    common = list(range(20, 33))
    texts: dict[int, list[int]] = {}
    for name in range(data.draw(st.integers(2, 9))):
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
            prompt = common[: data.draw(st.integers(0, 13))] + data.draw(
                st.lists(st.integers(0, 9), min_size=1, max_size=6)
            )
            texts[name] = prompt[: cache.allocate_request(name, prompt)]
            waiting[name] = prompt[len(texts[name]) :]
        others = [n for n in texts if n not in waiting and data.draw(st.booleans())]
        waiting |= {n: data.draw(st.lists(st.integers(0, 96), min_size=1, max_size=3)) for n in others}
        if not waiting:
            continue
        batch = FlatBatch.pack(list(waiting.values()), [len(texts[n]) for n in waiting], list(waiting))
        if action == "fail":
            with suppress(OutOfPages):
                cache.prepare(batch)  # a pass that ends here: the next one finds all as it was
        try:
            got = MODEL(batch, cache, logits="all")
        except OutOfPages:  # only where the pool is short; nothing was added
            assert {n: cache.pool.length(n) for n in texts} == {n: len(t) for n, t in texts.items()}
            continue
        for n, more in waiting.items():
            texts[n] += more
        torch.testing.assert_close(
            got, torch.cat([logits_of(texts[n], len(more)) for n, more in waiting.items()]), atol=1e-4, rtol=0
        )
        assert {n: cache.pool.length(n) for n in texts} == {n: len(t) for n, t in texts.items()}


def test_two_prompts_of_one_step_share_what_the_first_one_fills():
    cache, prompt = poisoned(), list(range(10, 23))
    assert cache.allocate_request("a", [*prompt, 1]) == 0
    cache.prepare(FlatBatch.pack([[*prompt, 1]], seq_ids=["a"]))
    assert cache.allocate_request("b", [*prompt, 2]) == 12
    cache.pool.rollback("a")
    assert cache.pool.length("b") == 0, "nobody wrote it"
    got = MODEL(FlatBatch.pack([[*prompt, 1], [*prompt, 2]], [0, 0], ["a", "b"]), cache)
    want = torch.cat([logits_of([*prompt, n], 1) for n in (1, 2)])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_what_is_reserved_after_a_pass_is_shared_in_the_next_one():
    cache, prompt = poisoned(), list(range(10, 23))
    MODEL(FlatBatch.pack([[1, 2]], seq_ids=["x"]), cache)
    cache.reserve("x", [3])
    for name, cached in (("a", 0), ("b", 12)):
        assert cache.allocate_request(name, prompt) == cached
        cache.reserve(name, prompt[cached:])
    got = MODEL(FlatBatch.pack([[3], prompt, prompt[12:]], [2, 0, 12], ["x", "a", "b"]), cache)
    want = torch.cat([logits_of(text, 1) for text in ([1, 2, 3], prompt, prompt)])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_what_was_reserved_stays_so_when_another_finds_no_page():
    cache = poisoned(3)
    cache.allocate_request("a", [5] * 6)
    cache.reserve("a", [5] * 6)
    with pytest.raises(OutOfPages):
        cache.prepare(FlatBatch.pack([[5] * 6, [7] * 5], seq_ids=["a", "b"]))
    assert cache.pool.length("a") == 6
    assert "b" not in cache.pool.requests
    got = MODEL(FlatBatch.pack([[5] * 6], seq_ids=["a"]), cache)
    torch.testing.assert_close(got, logits_of([5] * 6, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("pages", [40, 3], ids=["ample", "just enough"])
def test_what_is_reserved_for_a_fork_is_copied_first(pages):
    cache, text = poisoned(pages), [1, 2, 3, 4, 5, 6]
    MODEL(FlatBatch.pack([text], seq_ids=["a"]), cache)
    cache.fork("a", "b")
    for name, token in (("a", 7), ("b", 8)):
        cache.reserve(name, [token])
    got = MODEL(FlatBatch.pack([[7], [8]], [6, 6], ["a", "b"]), cache)
    want = torch.cat([logits_of([*text, token], 1) for token in (7, 8)])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert cache.pool.stats().copies == 1


def test_a_pass_that_is_abandoned_is_forgotten():
    cache, text = poisoned(), [1, 2, 3, 4, 5, 6]
    MODEL(FlatBatch.pack([text], seq_ids=["a"]), cache)
    cache.reserve("a", [7])
    cache.allocate_request("b", [*text, 7])
    cache.reserve("b", [5, 6, 7])
    cache.abandon()
    assert (cache.pool.length("a"), cache.pool.length("b")) == (6, 4)
    cache.free_request("b")
    got = MODEL(FlatBatch.pack([[8]], [6], ["a"]), cache)
    torch.testing.assert_close(got, logits_of([*text, 8], 1), atol=1e-4, rtol=0)


def test_a_cached_prompt_computes_its_last_page_only():
    cache, prompt = poisoned(), list(range(12))
    MODEL(FlatBatch.pack([prompt], seq_ids=["a"]), cache)
    cache.free_request("a")
    assert cache.allocate_request("b", prompt) == 8, "the last token is always computed, and its page with it"
    got = MODEL(FlatBatch.pack([prompt[8:]], [8], ["b"]), cache)
    torch.testing.assert_close(got, logits_of(prompt, 1), atol=1e-4, rtol=0)
    assert cache.pool.stats().hit_tokens == 8


def test_a_salt_keeps_tenants_apart():
    cache, prompt = poisoned(), list(range(12))
    assert cache.allocate_request("a", prompt, salt="red") == 0
    MODEL(FlatBatch.pack([prompt], seq_ids=["a"]), cache)
    found = [
        cache.allocate_request(name, prompt, salt)
        for name, salt in (("b", "blue"), ("c", None), ("d", "red"))
    ]
    assert found == [0, 0, 8]


def test_siblings_of_a_fork_do_not_see_each_other():
    cache, text = poisoned(), [1, 2, 3, 4, 5, 6]
    MODEL(FlatBatch.pack([text], seq_ids=["a"]), cache)
    cache.fork("a", "b")
    assert cache.pool.num_used == 2
    for token, name in ((7, "a"), (8, "b"), (9, "a"), (10, "b")):
        grown = text + ({"a": [7, 9], "b": [8, 10]}[name][: cache.pool.length(name) - 5])
        got = MODEL(FlatBatch.pack([[token]], [cache.pool.length(name)], [name]), cache)
        torch.testing.assert_close(got, logits_of(grown, 1), atol=1e-4, rtol=0)
    assert cache.pool.stats().copies == 1


def test_too_many_tokens_fail_alone_and_change_nothing():
    cache = poisoned(num_pages=4)
    MODEL(FlatBatch.pack([[1, 2, 3, 4, 5]], seq_ids=["a"]), cache)
    before = cache.k.clone()
    for batch in (
        FlatBatch.pack([[1] * 9], seq_ids=["b"]),
        FlatBatch.pack([[6], [1] * 9], [5, 0], ["a", "b"]),
    ):
        with pytest.raises(OutOfPages, match="request 'b' needs 3 more pages"):
            MODEL(batch, cache)
        assert list(cache.pool.requests) == ["a"]
        assert cache.pool.length("a") == 5
        assert torch.equal(cache.k.isnan(), before.isnan())
    got = MODEL(FlatBatch.pack([[6]], [5], ["a"]), cache)
    torch.testing.assert_close(got, logits_of([1, 2, 3, 4, 5, 6], 1), atol=1e-4, rtol=0)


def test_by_hand_100_tokens_and_50_more_take_10_pages():
    cache = PagedKVCache(num_layers=2, page_size=16, num_pages=12, num_kv_heads=1, head_dim=2)
    assert cache.allocate_request("a", 100) == 0
    assert cache.pool.num_used == 7
    cache.append_tokens("a", 50)
    assert cache.pool.num_used == 10
    k, v = torch.randn(150, 1, 2), torch.randn(150, 1, 2)
    cache.write("a", 1, k[:110], v[:110], 0)
    cache.write("a", 1, k[110:], v[110:], 110)
    got = cache.get_kv("a", 1)
    assert torch.equal(got[0], k)
    assert torch.equal(got[1], v)
    assert not cache.get_kv("a", 0)[0].any(), "layers are apart"
    cache.free_request("a")
    assert cache.pool.num_used == 0


def test_by_hand_a_fork_keeps_what_it_began_with():
    cache = PagedKVCache(num_layers=2, page_size=4, num_pages=6, num_kv_heads=1, head_dim=2)
    cache.allocate_request("a", 6)
    k, v = torch.randn(2, 8, 1, 2), torch.randn(2, 8, 1, 2)
    for layer in (0, 1):
        cache.write("a", layer, k[layer, :6], v[layer, :6], 0)
    cache.fork("a", "b")
    cache.append_tokens("b", 2)
    for layer in (0, 1):
        cache.write("b", layer, k[layer, 6:], v[layer, 6:], 6)
        for name, length in (("a", 6), ("b", 8)):
            got = cache.get_kv(name, layer)
            assert torch.equal(got[0], k[layer, :length])
            assert torch.equal(got[1], v[layer, :length])


def test_single_pages():
    cache = PagedKVCache(num_layers=1, page_size=16, num_pages=2)
    pages = {cache.allocate_page(), cache.allocate_page()}
    assert len(pages) == 2
    with pytest.raises(OutOfPages):
        cache.allocate_page()
    assert len(cache.pool.requests) == 2
    page = pages.pop()
    cache.free_page(page)
    with pytest.raises(ValueError, match="free already"):
        cache.free_page(page)
    assert cache.pool.num_free == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.free_request("x"), "'x'"),
        (lambda c: c.get_kv("x", 0), "'x'"),
        (lambda c: c.get_kv("a", 2), "layers 0 to 1, got 2"),
        (lambda c: c.append_tokens("x", 1), "'x'"),
        (lambda c: c.append_tokens("a", -1), "-1"),
        (lambda c: c.append_tokens("a", 1000), "needs"),
        (lambda c: c.allocate_request("a", 3), "'a'"),
        (lambda c: c.allocate_request("b", 1000), "needs"),
        (lambda c: c.fork("x", "b"), "'x'"),
        (lambda c: c.fork("a", "a"), "'a'"),
        (lambda c: c.write("a", 0, torch.zeros(2, 2, 16), torch.zeros(2, 2, 16), 4), "has 5 tokens, got 4 to 6"),
        (lambda c: c.write("a", 0, torch.zeros(2, 1, 16), torch.zeros(2, 1, 16), 0), "expected k and v"),
        (lambda c: c.prepare(FlatBatch.pack([[1]], [4], ["a"])), "5 tokens are cached, the batch continues 4"),
        (lambda c: c.prepare(FlatBatch.pack([[1]], [1], ["b"])), "0 tokens are cached, the batch continues 1"),
        (lambda c: c.attend(0, *(torch.zeros(1, 2, 16),) * 3, FlatBatch.pack([[1]])), "after prepare"),
        (lambda c: c.attend(0, *(torch.zeros(1, 2, 16).half(),) * 3, FlatBatch.pack([[1]])), "torch.float16"),
    ],
)  # fmt: skip
def test_misuse_is_named_and_changes_nothing(call, words):
    cache = PagedKVCache.for_model(MODEL, 8, 4)
    MODEL(FlatBatch.pack([[1, 2, 3, 4, 5]], seq_ids=["a"]), cache)
    before, stats = cache.k.clone(), cache.pool.stats()
    with pytest.raises(ValueError, match=re.escape(words)):
        call(cache)
    assert torch.equal(cache.k, before)
    assert cache.pool.stats() == stats
    assert list(cache.pool.requests) == ["a"]
    cache.free_request("a")
    with pytest.raises(ValueError, match="'a'"):
        cache.free_request("a")


def test_a_shared_page_is_not_written_by_hand():
    cache = PagedKVCache.for_model(MODEL, 8, 4)
    cache.allocate_request("a", 6)
    cache.fork("a", "b")
    with pytest.raises(ValueError, match="another request shares"):
        cache.write("b", 0, torch.zeros(1, 2, 16), torch.zeros(1, 2, 16), 5)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="every size must be 1 or more"):
        PagedKVCache(num_layers=0)
    with pytest.raises(ValueError, match="floating-point"):
        PagedKVCache(num_layers=1, dtype=torch.int8)
    assert PagedKVCache(2, 16, 10, 3, 8, torch.float16).nbytes == 2 * 2 * 10 * 16 * 3 * 8 * 2


def test_half_precision_stays_near_fp32():
    model = twin(reference("qwen3"), torch.bfloat16)
    cache, text = poisoned(model=model), [1, 2, 3, 4, 5, 6, 7]
    model(FlatBatch.pack([text[:5]]), cache)
    got = model(FlatBatch.pack([text[5:]], [5]), cache)
    assert (got - logits_of(text, 1)).abs().max() < 0.05 * logits_of(text, 1).abs().max()


def test_a_batch_without_the_writer_of_its_pages_is_refused_before_anything_changes():
    """B hits pages that A has yet to write; alone, B would attend to what nobody has written."""
    model = twin(reference("llama"))
    cache = PagedKVCache.for_model(model, 16, 4)
    text = list(range(1, 10))
    assert cache.allocate_request("a", text) == 0
    cache.reserve("a", text)
    assert cache.allocate_request("b", text) == 8
    before = cache.pool.stats()
    with pytest.raises(ValueError, match="'b' counts on pages that 'a' has yet to write"):
        model(FlatBatch.pack([text[8:]], [8], ["b"]), cache)
    assert cache.pool.stats() == before
    logits = model(FlatBatch.pack([text, text[8:]], [0, 8], ["a", "b"]), cache)
    assert torch.allclose(logits[0], logits[1], atol=1e-5)
