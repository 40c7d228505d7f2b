"""A model's weights and cache in bytes: the type that is given, that of a config, or what its checkpoint packs."""

import pytest
import torch
from transformers import LlamaConfig

from helpers.estimates import SizedModel, kv_cache_bytes, quantised_bytes, state_bytes, weight_bytes
from helpers.model import PUBLISHED, ModelShape
from tests.families import FAMILIES, SIZES

AWQ = dict(quant_method="awq", bits=4, group_size=16, zero_point=True)


def test_int4_alone_means_the_layers_linear_parts():
    """Qwen2.5-7B: embedding and output matrix, 152,064 x 3,584 each, stay in 16 bits."""
    shape = PUBLISHED["Qwen2.5-7B"]
    outside = 2 * 152064 * 3584
    assert shape.num_params - shape.linear_params == pytest.approx(outside, rel=0.001)
    assert weight_bytes(shape, "int4") == pytest.approx(5.58e9, rel=0.01)
    assert weight_bytes(shape, "bf16") == 2 * shape.num_params


@pytest.mark.parametrize(
    ("own", "given", "computes", "size"),
    [
        (torch.float32, None, "fp32", 4),
        (torch.bfloat16, None, "bf16", 2),
        (None, None, "fp16", 2),
        (torch.float32, "bf16", "bf16", 2),
    ],
)
def test_a_config_is_in_its_own_type_unless_told_otherwise(own, given, computes, size):
    config = LlamaConfig(**SIZES, dtype=own)
    model = SizedModel.of(config, given)
    assert (model.computes_in, model.element_bytes) == (computes, size)
    assert model.weights == size * ModelShape.from_hf(config).num_params


def test_a_shape_is_in_bf16_and_computes_in_bf16_when_quantised():
    shape = PUBLISHED["Llama-3-8B"]
    plain, eight = SizedModel.of(shape), SizedModel.of(shape, "int8")
    assert (plain.computes_in, plain.weights) == ("bf16", 2 * shape.num_params)
    assert (eight.computes_in, eight.weights) == ("bf16", weight_bytes(shape, "int8"))
    assert plain.weights / 2 < eight.weights < plain.weights


def test_a_quantised_config_weighs_what_its_checkpoint_packs():
    config = LlamaConfig(**SIZES, dtype=torch.bfloat16, quantization_config=AWQ)
    packed, whole = SizedModel.of(config), SizedModel.of(config, "bf16")
    assert packed.weights == quantised_bytes(config) < whole.weights
    assert packed.computes_in == whole.computes_in == "bf16"


def test_a_cache_counts_keys_values_and_states():
    shape = ModelShape.from_hf(FAMILIES["qwen3-next"]())
    model = SizedModel.of(shape, "bf16")
    states = state_bytes(shape, 3, "bf16")
    assert states > 0
    assert model.cache_bytes(3, 40) == kv_cache_bytes(shape, 3, 40, "bf16") + states
    assert model.cache_bytes(3, 40, "int8") == kv_cache_bytes(shape, 3, 40, "int8") + states
