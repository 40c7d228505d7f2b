"""Counts without computing are those of the real pass, and grow with layers as they should."""

import dataclasses
import itertools

import pytest

from helpers import KVCache
from helpers.graphs import PLAIN, WRITTEN_OUT, decode_counts, op_counts, pass_counts, swapped
from helpers.model import FlatBatch
from tests.tiny import CONFIGS, reference, twin


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("new", "history"), [([1], [8]), ([1, 1], [5, 5]), ([3, 1, 4], [0, 6, 2])])
def test_the_counts_are_those_of_the_real_pass(name, new, history):
    model = twin(reference(name))
    cache = KVCache.for_model(model, len(new), max(a + b for a, b in zip(new, history, strict=True)))
    rows = [i for i, length in enumerate(history) if length]
    model(FlatBatch.pack([[1] * history[i] for i in rows], seq_ids=rows), cache)
    batch = FlatBatch.pack([[2] * n for n in new], history)
    with swapped(**PLAIN):
        real = op_counts(lambda: model(batch, cache), [*model.parameters(), cache.k, cache.v])
    found = pass_counts(model.cfg, new, history)
    # the cast of cos and sin, and one copy of angles to the device in a model's first pass, are the same calls
    assert found.num_launches == pytest.approx(real.num_launches, abs=1)
    assert {n: c for n, c in found.launches.items() if n in ("linear", "rms_norm", "addcmul_")} == {
        n: c for n, c in real.launches.items() if n in ("linear", "rms_norm", "addcmul_")
    }


def test_calls_grow_by_the_same_number_with_each_layer():
    cfg = twin(reference("llama")).cfg
    sizes = [dataclasses.replace(cfg, num_layers=n) for n in (2, 3, 4)]
    counts = [decode_counts(each) for each in sizes]
    steps = [b.num_launches - a.num_launches for a, b in itertools.pairwise(counts)]
    assert steps[0] == steps[1] == 16


def test_written_out_operators_launch_more_and_move_more():
    cfg = twin(reference("llama")).cfg
    fused = decode_counts(cfg, batch=2)
    with swapped(**WRITTEN_OUT):
        written = decode_counts(cfg, batch=2)
    # a norm 5 launches more, a rotation 2 more (5 - 3), SwiGLU 1 more; the first norm is a plain one in both
    assert written.num_launches - fused.num_launches == 5 * 2 * cfg.num_layers + (2 + 1) * cfg.num_layers
    assert written.nbytes > 1.2 * fused.nbytes
    assert decode_counts(cfg, batch=2) == fused, "the operators are back"


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        pass_counts(twin(reference("llama")).cfg, [1, 1], [4])
