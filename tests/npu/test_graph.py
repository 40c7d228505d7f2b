"""A captured decode step gives what the plain pass gives, at every length."""

from __future__ import annotations

import pytest
import torch

from helpers import KVCache, emulated_npu
from helpers.graphs import DecodeGraph
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
        ([3, 4], None, "every row needs a prompt"),
        ([1, 2], [1], "expected 2 tokens"),
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
