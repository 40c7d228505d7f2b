"""The contract of a cache, on its two simplest keepers: lengths grow in `commit` alone, and bad batches change nothing."""

import pytest
import torch

from helpers import ops
from helpers.model import ConcatCache, FlatBatch, generate
from tests.tiny import CONFIGS, reference, twin

PROMPT = [5, 17, 80, 2]


def test_bad_batches_are_refused_before_the_cache_changes():
    ours, cache = twin(reference("llama")), ConcatCache()
    ours(FlatBatch.pack([[1, 2]]), cache)
    with pytest.raises(ValueError, match="under 97, got 97"):
        ours(FlatBatch.pack([[97]], history=[2]), cache)
    with pytest.raises(ValueError, match="256 positions, a sequence has 300"):
        ours(FlatBatch.pack([[1] * 298], history=[2]), cache)
    with pytest.raises(ValueError, match="2 tokens are cached, the batch continues 5"):
        ours(FlatBatch.pack([[1]], history=[5]), cache)
    assert cache.seq_len(0) == 2
    assert ours(FlatBatch.pack([[3]], history=[2]), cache).shape == (1, 97)


def test_a_pass_that_fails_midway_changes_no_length(monkeypatch):
    ours, cache = twin(reference("llama")), ConcatCache()
    ours(FlatBatch.pack([[1, 2]]), cache)
    step = FlatBatch.pack([[3]], history=[2])
    with monkeypatch.context() as broken:
        broken.setattr(ours.layers[1].mlp, "forward", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ours(step, cache)
    assert cache.seq_len(0) == 2
    want = ours(FlatBatch.pack([[1, 2, 3]]))
    torch.testing.assert_close(ours(step, cache), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cache_attends_by_the_attention_that_it_is_given(name):
    ours, called = twin(reference(name)), []

    def attention(*arguments):
        called.append(arguments[3])
        return ops.materialised_attention(*arguments)

    assert generate(ours, PROMPT, 6, ConcatCache(attention)).token_ids == generate(ours, PROMPT, 6).token_ids
    assert len(called) == 6 * ours.cfg.num_layers
