"""A model is changed in a copy that shares what stays."""

import pytest
import torch

from helpers.compression import matrices, plain_weight, replaced, reweighted
from helpers.model import FlatBatch
from tests.tiny import reference, twin

TOKENS = [[5, 96, 3, 3, 41], [7, 7]]


def test_matrices_come_in_the_order_of_computing():
    names = [name for name, _ in matrices(twin(reference("qwen2")))]
    assert names[:4] == [f"layers.0.{part}" for part in
                         ("attn.qkv_proj", "attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")]  # fmt: skip
    assert len(names) == 9
    assert names[-1] == "lm_head"


@pytest.mark.parametrize("packed", [False, True])
def test_the_original_stays_and_the_rest_is_shared(packed):
    model = twin(reference("llama with biases"))
    before = model(FlatBatch.pack(TOKENS))
    model = model.pack() if packed else model
    zeroed = reweighted(model, lambda name, w: w * 0 if name.endswith("down_proj") else w)
    torch.testing.assert_close(model(FlatBatch.pack(TOKENS)), before)
    assert zeroed.norm is model.norm
    assert zeroed.layers[0].attn.o_proj is model.layers[0].attn.o_proj
    down = zeroed.layers[1].mlp.down_proj
    assert not plain_weight(down).any()
    assert down.weight.is_mkldnn == model.layers[1].mlp.down_proj.weight.is_mkldnn
    assert torch.equal(down.bias, model.layers[1].mlp.down_proj.bias)
    assert not torch.allclose(zeroed(FlatBatch.pack(TOKENS)), before)


def test_packed_weights_are_read_as_they_were():
    plain, packed = twin(reference("llama")), twin(reference("llama")).pack()
    for (_, one), (_, other) in zip(matrices(plain), matrices(packed), strict=True):
        assert torch.equal(plain_weight(one), plain_weight(other))


def test_a_copy_does_not_compute_by_the_native_pass_of_its_original():
    """A native pass holds the weights that it was made of, not those that stand in their place."""
    model = twin(reference("llama"))
    model.native_passes = made = object()
    assert replaced(model, lambda name, linear: linear).native_passes is None
    assert model.native_passes is made
