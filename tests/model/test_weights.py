"""A decoder out of a checkpoint's tensors: what is missing or misshapen is named."""

import pytest
import torch

from helpers.model import build
from tests.tiny import reference


def test_a_missing_or_misshapen_tensor_is_named():
    model = reference("llama")
    tensors = dict(model.state_dict())
    tensors["model.norm.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"norm: expected shape \(32,\)"):
        build(model.config, tensors)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(ValueError, match=r"layers.1.mlp.up_proj"):
        build(model.config, tensors)
