"""KVCache: exact in a model, in place, ragged, and unchanged by what it refuses."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import KVCache
from helpers.model import ConcatCache, FlatBatch, NoCache, generate
from tests.tiny import CONFIGS, reference, twin

LAYERS, ROWS, KV, ROOM, DIM = 3, 2, 2, 8, 4


def tokens(n, seed=0):
    return torch.randn(ROWS, KV, n, DIM, generator=torch.Generator().manual_seed(seed))


def empty(**changes):
    return KVCache(**(dict(num_layers=LAYERS, batch_size=ROWS, max_seq_len=ROOM, num_kv_heads=KV, head_dim=DIM) | changes))  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_equal_transformers_and_no_cache(name):
    model, prompt = reference(name), [5, 96, 3, 3, 41, 12, 17]
    ours = twin(model)
    got = generate(ours, prompt, 20, KVCache.for_model(ours, 1, 27))
    with torch.no_grad():
        theirs = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=None)  # fmt: skip
    assert got.token_ids == theirs[0, len(prompt) :].tolist()
    assert got.token_ids == generate(ours, prompt, 20).token_ids
    assert got.tokens_computed == len(prompt) + 19


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_interleaving_of_rows_equals_whole_passes(data):
    """Rows grow by chunks in any order, are cleared and used again; poison beyond their ends changes nothing."""
    ours = MODEL
    cache = KVCache.for_model(ours, 4, 24)
    cache.k.fill_(float("nan")), cache.v.fill_(float("nan"))
    texts: dict[int, list[int]] = {row: [] for row in range(4)}
    for _ in range(data.draw(st.integers(1, 8))):
        rows = data.draw(st.lists(st.sampled_from(range(4)), min_size=1, unique=True))
        if data.draw(st.booleans()) and data.draw(st.booleans()):
            cache.clear(rows[0])
            texts[rows[0]] = []
        new = {r: data.draw(st.lists(st.integers(0, 96), min_size=1, max_size=6)) for r in rows}
        new = {r: more for r, more in new.items() if len(texts[r]) + len(more) <= 24}
        if not new:
            continue
        batch = FlatBatch.pack(list(new.values()), [len(texts[r]) for r in new], list(new))
        got = ours(batch, cache, logits="all")
        want = []
        for r, more in new.items():
            texts[r] += more
            want.append(ours(FlatBatch.pack([texts[r]]), NoCache(), logits="all")[-len(more) :])
        torch.testing.assert_close(got, torch.cat(want), atol=1e-4, rtol=0)
        assert cache.seq_lens == [len(texts[r]) for r in range(4)]


MODEL = twin(reference("qwen3"))


def test_half_precision_is_as_far_from_full_precision_as_the_concatenating_cache():
    exact, ours = (twin(reference("llama"), dtype) for dtype in (torch.float32, torch.bfloat16))
    cache, plain, full = KVCache.for_model(ours, 1, 16), ConcatCache(), ConcatCache()
    for history, row in ((0, [1, 2, 3, 4]), (4, [5]), (5, [6, 7])):
        batch = FlatBatch.pack([row], [history])
        right = exact(batch, full)
        # Logits reach 4, and bf16 keeps 8 bits: kernels that round at other places differ by a few hundredths.
        for caching in (cache, plain):
            torch.testing.assert_close(ours(batch, caching).float(), right, atol=0.1, rtol=0)


def test_update_and_get_by_hand():
    cache, k, v = empty(), tokens(3), tokens(3, seed=1)
    for layer in range(LAYERS):
        assert cache.seq_lens == [0, 0], "a token counts when every layer has it"
        cache.update(layer, k, v, [[0, 1, 2]] * ROWS)
    assert cache.seq_lens == [3, 3]
    got_k, got_v = cache.get(2, 1)
    assert torch.equal(got_k, k[1]) and torch.equal(got_v, v[1])  # noqa: PT018
    assert got_k.data_ptr() == cache.k[2, 1].data_ptr(), "a view, not a copy"
    assert [pair[0].shape for pair in cache.get(0)] == [(KV, 3, DIM)] * ROWS


def test_rows_may_stand_at_different_places():
    cache = empty(num_layers=1)
    cache.update(0, tokens(3), tokens(3), [[0, 1, 2]] * ROWS)
    cache.clear(1)
    cache.update(0, tokens(1, 5), tokens(1, 6), torch.tensor([[3], [0]]))
    assert cache.seq_lens == [4, 1]
    assert torch.equal(cache.get(0, 0)[0][:, :3], tokens(3)[0])
    assert torch.equal(cache.get(0, 1)[0], tokens(1, 5)[1])


def test_writing_an_earlier_place_forgets_what_stood_behind():
    cache = empty(num_layers=1)
    cache.update(0, tokens(5), tokens(5), [[0, 1, 2, 3, 4]] * ROWS)
    cache.update(0, tokens(1, 9), tokens(1, 9), [[2]] * ROWS)
    assert cache.seq_lens == [3, 3]


def test_clear_leaves_the_other_rows():
    cache = empty(num_layers=1)
    cache.update(0, tokens(2), tokens(2), [[0, 1]] * ROWS)
    cache.clear(0)
    assert cache.seq_lens == [0, 2]
    assert torch.equal(cache.get(0, 1)[1], tokens(2)[1])
    cache.clear()
    assert cache.seq_lens == [0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(layer_idx=LAYERS), "layers 0 to 2"),
        (dict(layer_idx=-1), "layers 0 to 2"),
        (dict(k=tokens(2)[:1]), "k: expected [2, 2, n, 4]"),
        (dict(v=tokens(1)), "v: expected [2, 2, n, 4]"),
        (dict(k=tokens(2)[0]), "k: expected [2, 2, n, 4]"),
        (dict(k=tokens(2).transpose(1, 2).reshape(2, 2, 2, 4)[..., :3]), "k: expected"),
        (dict(v=tokens(2).bfloat16()), "torch.bfloat16"),
        (dict(k=tokens(2).to("meta")), "on meta"),
        (dict(positions=[[3.0, 4.0]] * ROWS), "whole numbers"),
        (dict(positions=[[True, True]] * ROWS), "whole numbers"),
        (dict(positions=[[3, 5]] * ROWS), "follow one another"),
        (dict(positions=[[4, 3]] * ROWS), "follow one another"),
        (dict(positions=[[4, 5]] * ROWS), "holds 3 tokens, got position 4"),
        (dict(positions=[[3, 4], [4, 5]]), "row 1"),
        (dict(positions=[[-1, 0]] * ROWS), "got position -1"),
        (dict(positions=[3, 4]), "expected positions [2, 2]"),
        (dict(k=tokens(6), v=tokens(6), positions=[list(range(3, 9))] * ROWS), "holds 8 tokens, got position 8"),
    ],
)  # fmt: skip
def test_what_update_refuses_leaves_everything_as_it_was(change, words):
    cache = empty()
    for layer in range(LAYERS):
        cache.update(layer, tokens(3), tokens(3), [[0, 1, 2]] * ROWS)
    before = cache.k.clone(), cache.v.clone(), cache.seq_lens
    with pytest.raises(ValueError, match=re.escape(words)):
        cache.update(**(dict(layer_idx=0, k=tokens(2), v=tokens(2), positions=[[3, 4]] * ROWS) | change))
    assert torch.equal(cache.k, before[0])
    assert torch.equal(cache.v, before[1])
    assert cache.seq_lens == before[2]


@pytest.mark.parametrize(
    ("tokens", "history", "rows", "words"),
    [
        ([[1]], [1], [0], "row 0: 3 tokens are cached, the batch continues 1"),
        ([[1]], [3], [2], "named by its row, 0 to 1, got 2"),
        ([[1]], [3], ["a"], "got 'a'"),
        ([[1]], [3], [-1], "got -1"),
        ([[1, 2], [1] * 9], [3, 0], [0, 1], "row 1: 9 tokens do not fit, it holds 8"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_before_anything_changes(tokens, history, rows, words):
    cache = KVCache.for_model(MODEL, 2, 8)
    MODEL(FlatBatch.pack([[1, 2, 3]], seq_ids=[0]), cache)
    before = cache.k.clone()
    with pytest.raises(ValueError, match=re.escape(words)):
        MODEL(FlatBatch.pack(tokens, history, rows), cache)
    assert cache.seq_lens == [3, 0]
    assert torch.equal(cache.k, before)


def test_a_pass_that_fails_in_a_later_layer_changes_no_length(monkeypatch):
    cache = KVCache.for_model(MODEL, 1, 8)
    MODEL(FlatBatch.pack([[1, 2, 3]]), cache)
    want = MODEL(FlatBatch.pack([[1, 2, 3, 4]]))
    monkeypatch.setattr(MODEL.layers[1].mlp, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        MODEL(FlatBatch.pack([[9]], [3]), cache)
    monkeypatch.undo()
    assert cache.seq_lens == [3]
    torch.testing.assert_close(MODEL(FlatBatch.pack([[4]], [3]), cache), want, atol=1e-4, rtol=0)


def test_misuse_is_named():
    with pytest.raises(ValueError, match="every size must be 1 or more"):
        empty(batch_size=0)
    with pytest.raises(ValueError, match="floating-point"):
        empty(dtype=torch.int8)
    with pytest.raises(ValueError, match="named by its row"):
        empty().get(0, 2)
    with pytest.raises(ValueError, match="named by its row"):
        empty().clear(5)
    with pytest.raises(ValueError, match=r"the cache holds torch.bfloat16, the model gives torch.float32"):
        MODEL(FlatBatch.pack([[1]]), KVCache(2, 1, 8, 2, 16, torch.bfloat16))
    with pytest.raises(ValueError, match="after prepare"):
        empty().attend(0, *(torch.zeros(1, 2, 4) for _ in range(3)), FlatBatch.pack([[1]]))


def test_restore_fills_an_empty_row_in_every_layer():
    cache, k, v = empty(), torch.randn(LAYERS, KV, 3, DIM), torch.randn(LAYERS, KV, 3, DIM)
    cache.restore(1, k, v)
    assert cache.seq_lens == [0, 3]
    for layer in range(LAYERS):
        assert torch.equal(cache.get(layer, 1)[0], k[layer])
        assert torch.equal(cache.get(layer, 1)[1], v[layer])
    assert not cache.k[:, 0].any(), "the other row is as it was"


def test_what_restore_refuses_leaves_everything_as_it_was():
    cache, good = KVCache.for_model(MODEL, 1, 8), torch.ones(2, 2, 3, 16)
    for k, words in ((good[:1], "expected k and v"), (torch.ones(2, 2, 9, 16), "9 tokens do not fit")):
        with pytest.raises(ValueError, match=words):
            cache.restore(0, k, k)
    with pytest.raises(ValueError, match="named by its row"):
        cache.restore(1, good, good)
    assert cache.seq_lens == [0]
    assert not cache.k.any()
    cache.restore(0, good, good)
    with pytest.raises(ValueError, match="clear it first"):
        cache.restore(0, good * 2, good)
    assert torch.equal(cache.get(0, 0)[0], good[0])


def test_its_bytes_are_the_products_of_its_sizes():
    assert empty(dtype=torch.float16).nbytes == 2 * LAYERS * ROWS * KV * ROOM * DIM * 2
