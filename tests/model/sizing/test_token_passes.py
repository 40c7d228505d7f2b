"""Two tokens through a model on the meta device: which layers ran, and that nothing of it stays behind."""

import pytest
import torch

from helpers.model import ModelShape, UnreadableConfig, on_meta
from helpers.model.sizing import pass_tokens
from tests.families import family


def passes_of(config):
    text = on_meta(config).text
    return text, pass_tokens(text, config)


def test_layers_are_those_that_ran():
    _, passes = passes_of(family("llama"))
    assert passes.layers == {f"model.layers.{i}": i for i in range(4)}
    assert passes.layer_of("model.layers.2.mlp.gate_proj") == 2
    assert passes.layer_of("model.norm") is passes.layer_of("lm_head") is None
    assert {"model.norm", "lm_head", "model.layers.3.mlp"} <= passes.called


def test_a_tower_inside_a_text_model_is_no_layer():
    """GIT keeps its vision tower in the model that reads text; its layers would stand for the decoder's."""
    shape = ModelShape.from_hf(family("git", num_hidden_layers=2))
    assert len(shape.layers) == shape.num_layers == 2


def test_no_hook_and_no_setting_stays():
    before = torch.distributions.Distribution._validate_args
    text, _ = passes_of(family("llama"))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in text.modules())
    assert torch.distributions.Distribution._validate_args == before


class Twice(torch.nn.Module):
    """A model that runs its layers a second time."""

    def __init__(self, text):
        super().__init__()
        self.text, self.config = text, text.config

    def forward(self, **given):
        self.text(input_ids=given["input_ids"])
        return self.text(**given)


def test_layers_that_run_twice_are_refused():
    config = family("llama")
    with pytest.raises(UnreadableConfig, match="'llama' runs its layers several times for a token"):
        pass_tokens(Twice(on_meta(config).text), config)
