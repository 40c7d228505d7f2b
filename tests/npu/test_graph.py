"""A captured decode step gives what the plain pass gives, at every length."""

from __future__ import annotations

import pytest
import torch

from helpers import KVCache, emulated_npu
from helpers.graphs import BucketedDecode, DecodeGraph
from helpers.machine import choose_device
from helpers.model import FlatBatch
from tests.tiny import reference, twin

PROMPTS = [[5, 96, 3, 3], [41, 12, 17], [1]]


@pytest.fixture
def model():
    return twin(reference("qwen3"), torch.bfloat16).to(choose_device("emulated-npu"))


def filled(model, rows=(1, 2, 3)):
    cache = KVCache.for_model(model, 5, 16)
    model(FlatBatch.pack(PROMPTS[: len(rows)], seq_ids=list(rows), device=model.device), cache)
    return cache


def test_replays_equal_plain_passes(model):
    plain, cache = filled(model), filled(model)
    graph = DecodeGraph(model, cache, [1, 2, 3])
    assert cache.seq_lens == plain.seq_lens, "a capture adds nothing"
    for tokens in ([7, 8, 9], [1, 1, 1], [60, 2, 33], [5, 6, 7]):
        lens = [plain.seq_lens[row] for row in (1, 2, 3)]
        want = model(FlatBatch.pack([[t] for t in tokens], lens, [1, 2, 3], device=model.device), plain)
        torch.testing.assert_close(graph.step(tokens).cpu(), want.cpu(), atol=0, rtol=0)
    assert cache.seq_lens == plain.seq_lens
    torch.testing.assert_close(cache.k.cpu(), plain.k.cpu(), atol=0, rtol=0)


def test_a_replay_launches_nothing_but_its_inputs_from_python(model):
    cache = filled(model)
    graph = DecodeGraph(model, cache, [1, 2, 3])
    launched = []
    original = model.compute
    model.compute = lambda *args: launched.append(args) or original(*args)
    with emulated_npu.trace() as names:
        graph.step([1, 2, 3])
    assert launched == []
    assert sum("FusedInferAttentionScore" in name for name in names) == model.cfg.num_layers


def test_a_replay_reads_memory_that_it_holds(model):
    """Two graphs and plain passes of other rows in turns: freed memory would be given to another tensor."""
    caches = [filled(model) for _ in range(3)]
    graphs = [DecodeGraph(model, cache, [1, 2, 3]) for cache in caches[:2]]
    for tokens in ([7, 8, 9], [1, 1, 1], [60, 2, 33]):
        lens = [caches[2].seq_lens[row] for row in (1, 2, 3)]
        want = model(FlatBatch.pack([[t] for t in tokens], lens, [1, 2, 3], device=model.device), caches[2])
        for graph in graphs:
            assert torch.equal(graph.step(tokens).cpu(), want.cpu())


def test_lengths_that_are_not_updated_are_stale(model):
    plain, cache = filled(model), filled(model)
    frozen = DecodeGraph(model, cache, [1, 2, 3], update=False)
    equal = []
    for tokens in ([7, 8, 9], [1, 1, 1]):
        lens = [plain.seq_lens[row] for row in (1, 2, 3)]
        want = model(FlatBatch.pack([[t] for t in tokens], lens, [1, 2, 3], device=model.device), plain)
        equal.append(torch.equal(frozen.step(tokens).cpu(), want.cpu()))
    assert equal == [True, False]


def test_buckets_pad_and_give_the_tokens_of_plain_passes(model):
    plain, cache = KVCache.for_model(model, 4, 16), KVCache.for_model(model, 4, 16)
    for each in (plain, cache):
        model(FlatBatch.pack(PROMPTS, device=model.device), each)
    captured = BucketedDecode(lambda rows: DecodeGraph(model, cache, rows), [1, 2, 4])
    for tokens, size in (([7, 8, 9], 4), ([1, 2], 2), ([5], 1), ([4, 4, 4], 4)):
        batch = FlatBatch.pack([[t] for t in tokens], plain.seq_lens[: len(tokens)], device=model.device)
        ran, logits = captured.step(tokens)
        torch.testing.assert_close(logits.cpu(), model(batch, plain).cpu(), atol=0, rtol=0)
        assert ran == size
        assert cache.seq_lens == plain.seq_lens
    with pytest.raises(ValueError, match="5 tokens, and the largest captured step has 4"):
        captured.step([1] * 5)


def test_the_host_launches_a_graphs_updates_and_nothing_else(model):
    cache, plain = filled(model), filled(model)
    graph = DecodeGraph(model, cache, [1, 2, 3])
    batch = FlatBatch.pack(
        [[1], [2], [3]], [plain.seq_lens[row] for row in (1, 2, 3)], [1, 2, 3], device=model.device
    )
    with emulated_npu.trace(launched=True) as one_by_one, emulated_npu.trace() as ran:
        model(batch, plain)
    assert one_by_one == ran, "what is launched runs at once"
    with emulated_npu.trace(launched=True) as launched, emulated_npu.trace() as ran:
        graph.step([1, 2, 3])
    updates = [name for name in launched if "FusedInferAttentionScore" in name]
    assert len(updates) == model.cfg.num_layers
    assert len(launched) < len(ran) / 2
    assert len(ran) >= len(one_by_one) - len(launched)


def test_a_full_row_is_refused_before_anything_changes(model):
    cache = filled(model, rows=(0,))
    graph = DecodeGraph(model, cache, [0])
    for _ in range(12):
        graph.step([3])
    before = cache.k.clone()
    with pytest.raises(ValueError, match="17 tokens do not fit"):
        graph.step([3])
    assert cache.seq_lens[0] == 16
    assert torch.equal(cache.k, before)


@pytest.mark.parametrize(
    ("rows", "tokens", "words"),
    [
        ([1, 3], None, "neighbouring rows"),
        ([], None, "neighbouring rows"),
        ([1, 2], [1, 2, 3], "expected 1 to 2 tokens"),
        ([1, 2], [], "expected 1 to 2 tokens"),
        ([1, 2], [1, 500], "under 97"),
    ],
)
def test_misuse_is_named(rows, tokens, words, model):
    cache = filled(model)
    with pytest.raises(ValueError, match=words):
        DecodeGraph(model, cache, rows).step(tokens)


def test_fp32_has_no_graph():
    model = twin(reference("qwen3")).to(choose_device("emulated-npu"))
    with pytest.raises(ValueError, match="16 bits"):
        DecodeGraph(model, filled(model), [1])
