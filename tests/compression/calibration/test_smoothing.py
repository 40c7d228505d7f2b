"""Smoothing changes no result, and makes int8 activations better."""

import pytest
import torch

from helpers.compression import INT8, Recipe, Yardstick, calibrate, quantise, rescaled, smooth
from helpers.model import FlatBatch
from tests.tiny import reference, twin

TEXTS = [[5, 96, 3, 3, 41, 0, 17, 22, 9, 60, 11, 2], [7, 7, 80, 4, 33, 90, 21]]


def with_outliers(name):
    """A model whose norms and up rows make two channels a hundred times as large, and whose weights undo it."""
    model = twin(reference(name))
    outlier = torch.ones(32)
    outlier[[3, 17]] = 100.0
    inner = torch.ones(48)
    inner[5] = 100.0
    scales = {}
    for i in range(2):
        scales |= {f"layers.{i}.attn.qkv_proj": 1 / outlier, f"layers.{i}.mlp.gate_up_proj": 1 / outlier}
        scales |= {f"layers.{i}.mlp.down_proj": 1 / inner}
    return rescaled(model, scales)


@pytest.mark.parametrize("name", ["llama", "llama with biases", "qwen3 tied, biases"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_model_stays_equal(name, strength):
    model = twin(reference(name)).pack()
    smoothed = smooth(model, calibrate(model, TEXTS), strength)
    got, want = (m(FlatBatch.pack(TEXTS), logits="all") for m in (smoothed, model))
    torch.testing.assert_close(got, want, atol=1e-3, rtol=0)
    assert smoothed.layers[0].input_norm is not model.layers[0].input_norm


def test_outliers_shrink_and_int8_gets_better():
    model = with_outliers("llama")
    before = calibrate(model, TEXTS)
    smoothed = smooth(model, before)
    after = calibrate(smoothed, TEXTS)
    for name in before:
        if name.endswith(("qkv_proj", "gate_up_proj", "down_proj")):
            assert after[name].outlier_ratio < before[name].outlier_ratio / 2
    yardstick = Yardstick(model, TEXTS)

    def lost(base, per):
        return yardstick.measure(quantise(base, Recipe(INT8, activations=per))).divergence

    assert lost(smoothed, "token") < lost(model, "token") < lost(model, "tensor")


@pytest.mark.parametrize("name", ["layers.0.attn.o_proj", "lm_head"])
def test_inputs_that_attention_makes_cannot_be_scaled(name):
    with pytest.raises(ValueError, match="cannot be scaled where they are made"):
        rescaled(twin(reference("llama")), {name: torch.ones(32)})


def test_a_scale_of_zero_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        rescaled(twin(reference("llama")), {"layers.0.attn.qkv_proj": torch.zeros(32)})
