"""What a captured step refuses, before anything changes."""

import pytest
import torch

from helpers import KVCache
from helpers.graphs import DecodeGraph, MaskedRows, RecordedStep
from helpers.model import FlatBatch
from tests.tiny import reference, twin


@pytest.fixture(scope="module")
def model():
    return twin(reference("llama"))


@pytest.fixture
def cache(model):
    cache = MaskedRows.for_model(model, 4, 6)
    model(FlatBatch.pack([[1, 2], [3, 4, 5]]), cache)
    return cache


@pytest.mark.parametrize("rows", [[], [0, 2], [1, 0], [0, 0]])
def test_rows_that_are_not_neighbours_are_refused(rows, model, cache):
    with pytest.raises(ValueError, match="expected neighbouring rows in order"):
        RecordedStep(model, cache, rows)


@pytest.mark.parametrize("tokens", [[], [1, 1, 1]])
def test_more_tokens_than_rows_or_none_are_refused(tokens, model, cache):
    step = RecordedStep(model, cache, [0, 1])
    with pytest.raises(ValueError, match=f"expected 1 to 2 tokens, one for each row, got {len(tokens)}"):
        step.step(tokens)


def test_a_token_beyond_the_vocabulary_and_a_full_row_change_nothing(model, cache):
    step = RecordedStep(model, cache, [0, 1])
    keys, lens = cache.k.clone(), cache.seq_lens
    with pytest.raises(ValueError, match="token ids must be under 97"):
        step.step([1, 97])
    assert torch.equal(cache.k, keys)
    for _ in range(3):
        step.step([1, 1])
    keys, lens = cache.k.clone(), cache.seq_lens
    with pytest.raises(ValueError, match="7 tokens do not fit"):
        step.step([1, 1])
    assert torch.equal(cache.k, keys)
    assert cache.seq_lens == lens == [5, 6, 0, 0]


def test_an_npu_graph_needs_an_npu(model, cache):
    with pytest.raises(ValueError, match="in 16 bits on an NPU"):
        DecodeGraph(model, cache, [0])


def test_a_capture_adds_no_token(model):
    cache = KVCache.for_model(model, 1, 8)
    RecordedStep(model, cache, [0])
    assert cache.seq_lens == [0]
