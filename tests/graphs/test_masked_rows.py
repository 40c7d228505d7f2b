"""Rows under a mask give what rows of their own lengths give, in steps of any rows, and in prompts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import KVCache
from helpers.graphs import MaskedRows
from helpers.model import FlatBatch
from tests.tiny import reference, twin

MODEL = twin(reference("llama"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=8))
def test_any_history_of_passes_gives_the_same_logits(story):
    """A pass is a first row and a number of rows; each gets one token, an empty row a prompt of three."""
    caches = KVCache.for_model(MODEL, 5, 24), MaskedRows.for_model(MODEL, 5, 24)
    caches[1].v.fill_(7.0), caches[1].k.fill_(7.0)  # what a row has not written must not matter
    for number, (first, count) in enumerate(story):
        rows = list(range(first, min(first + count, 5)))
        lens = [caches[0].seq_lens[row] for row in rows]
        new = [[number + 1] if length else [3, number, row] for row, length in zip(rows, lens, strict=True)]
        logits = [MODEL(FlatBatch.pack(new, lens, rows), cache) for cache in caches]
        torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=0)
    assert caches[1].seq_lens == caches[0].seq_lens


def test_what_the_rows_refuse_changes_no_mask():
    cache = MaskedRows.for_model(MODEL, 2, 8)
    MODEL(FlatBatch.pack([[1, 2, 3]]), cache)
    mask = cache._mask.clone()
    with pytest.raises(ValueError, match="3 tokens are cached, the batch continues 5"):
        MODEL(FlatBatch.pack([[1]], [5]), cache)
    assert torch.equal(cache._mask, mask)
    assert mask[0, 0, 0].tolist() == [0.0] * 3 + [-math.inf] * 5
