"""A copy of a model computes by native passes of its own: over its own weights, until its parts are touched."""

import copy
import gc

import pytest
import torch

from helpers.compression import INT4, INT8, Recipe, quantise
from helpers.model import FlatBatch, NativePasses
from helpers.native import kernels
from tests.compression.test_quantise import wide_model
from tests.model.native_passes.test_native_passes import TOUCHES, batches_of, caches, calls, model_of

pytestmark = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)


def quantised(weights):
    """Return a model of codes whose passes are native up to 64 tokens."""
    model = quantise(wide_model(tie_word_embeddings=True), Recipe(weights, head=INT8))
    if not NativePasses.serves(model):
        pytest.skip("this processor's vectors are wider than the model's heads")
    model.native_passes = NativePasses(model, 64)
    return model


MODELS = {
    "fp32": lambda: model_of("llama"),
    "tied, norms of heads": lambda: model_of("qwen3"),
    "biases": lambda: model_of("qwen2"),
    "bf16": lambda: model_of("llama wide heads", torch.bfloat16),
    "int4": lambda: quantised(INT4),
    "int8": lambda: quantised(INT8),
}


def logits(model):
    """Return the logits of passes that mix prompts and single tokens."""
    cache = caches(model)["pages"]
    return torch.cat([model(batch, cache, logits="all") for batch in batches_of(3)])


def pointers(model):
    """Return where the tensors lie that a native pass reads."""
    found, todo = set(), [model.native_passes._native._kept]
    while todo:
        part = todo.pop()
        if isinstance(part, torch.Tensor):
            found.add(part.untyped_storage().data_ptr())
        elif isinstance(part, list | tuple):
            todo += part
    return found


def stored(model):
    """Return where a model's own tensors lie."""
    return {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_takes_native_passes_over_its_own_weights(name, monkeypatch):
    model = MODELS[name]()
    want, other = logits(model), copy.deepcopy(model)
    noted = calls(other, monkeypatch)
    assert torch.equal(logits(other), want)
    assert len(noted) == len(batches_of(3))
    monkeypatch.undo()
    assert not pointers(model) & pointers(other), "no memory is shared"
    assert len(pointers(model)) == len(pointers(other))
    if name.startswith("int"):
        assert pointers(other) <= stored(other), "codes are there once"
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    del model
    gc.collect()
    assert torch.equal(logits(other), want)


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_copy_that_was_touched_is_computed_by_its_own_parts(touch, monkeypatch):
    other = copy.deepcopy(model_of("llama"))
    noted = calls(other, monkeypatch)
    TOUCHES[touch](other)
    other(FlatBatch.pack([[1, 2, 3]]), caches(other)["rows"])
    assert not noted


def test_a_model_that_was_touched_has_copies_without_native_passes():
    model = model_of("llama")
    TOUCHES["a hook"](model)
    assert copy.deepcopy(model).native_passes is None


@pytest.mark.parametrize("wish", ["native", "packed"])
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_packed_models_are_copied_too(name, wish, monkeypatch):
    monkeypatch.setenv("COURSE_KERNELS", wish)
    model = model_of(name).pack()
    want, other = logits(model), copy.deepcopy(model)
    assert torch.equal(logits(other), want)
    assert (other.native_passes is None) == (model.native_passes is None) == (wish == "packed")
    for mine, theirs in zip(model.matrices(), other.matrices(), strict=True):
        assert (mine.weight.is_mkldnn, mine.tiles is None) == (theirs.weight.is_mkldnn, theirs.tiles is None)
    if wish == "native":
        kept = {m.tiles.numbers.data_ptr() for m in other.matrices() if m.tiles is not None}
        assert kept
        assert kept <= pointers(other), "tiles are there once"
        assert not pointers(model) & pointers(other)
    model.layers[0].mlp.down_proj = torch.nn.Identity()
    assert torch.equal(logits(other), want)


def test_copies_of_copies():
    model = model_of("llama")
    second = copy.deepcopy(copy.deepcopy(model))
    assert second.native_passes.takes(FlatBatch.pack([[1]]))
    assert second.native_passes._model is second
    assert torch.equal(logits(second), logits(model))
