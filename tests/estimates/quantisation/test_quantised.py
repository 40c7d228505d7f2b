"""Bytes of quantised models: published totals, and toy checkpoints counted tensor by tensor."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, GptOssConfig, Qwen2Config

from helpers import MemoryCalculator
from helpers.estimates import GB, GiB, UnknownScheme, quantised_bytes
from helpers.model import ModelShape
from tests.estimates.quantisation.layouts import compressed
from tests.families import FAMILIES, SIZES

CALC = MemoryCalculator()
AWQ = dict(quant_method="awq", bits=4, group_size=16, zero_point=True)
FP8 = dict(quant_method="fp8", weight_block_size=[32, 32])


@pytest.mark.parametrize(
    ("layers", "experts", "total"), [(36, 128, 65_248_815_744), (24, 32, 13_761_264_768)]
)
def test_gpt_oss_has_its_published_bytes(layers, experts, total):
    """The `total_size` in the index of the published checkpoints; arXiv:2508.10925, table 1: 60.8 and 12.8 GiB."""
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config = GptOssConfig(
        num_hidden_layers=layers, num_local_experts=experts, dtype="bfloat16",
        quantization_config=dict(quant_method="mxfp4", modules_to_not_convert=kept),
    )  # fmt: skip
    assert quantised_bytes(config) == total


def packed_by_hand(config, linear):
    """Bytes of a toy model whose linear layers take what `linear(rows, columns)` says, and all else two bytes each."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    sizes = {}
    for name, p in model.named_parameters():
        if name.endswith("_proj.weight"):
            sizes[name] = linear(*p.shape)
        elif name.endswith("experts.gate_up_proj"):
            sizes[name] = 2 * p.shape[0] * linear(p.shape[1] // 2, p.shape[2])
        elif name.endswith("experts.down_proj"):
            sizes[name] = p.shape[0] * linear(p.shape[1], p.shape[2])
        else:
            sizes[name] = 2 * p.numel()
    return sum(sizes.values())


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3-moe", "mixtral", "glm4.5"])
def test_a_toy_checkpoint_is_counted_tensor_by_tensor(name):
    config = FAMILIES[name]()
    config.dtype = torch.float16
    config.quantization_config = AWQ
    awq = packed_by_hand(
        config,
        lambda rows, columns: (rows * columns + rows * -(-columns // 16)) // 2 + 2 * rows * -(-columns // 16),
    )
    assert round(CALC.estimate_total_memory(config, 1, 8)["model"] * GB) == awq == quantised_bytes(config)
    config.quantization_config = FP8
    fp8 = packed_by_hand(
        config, lambda rows, columns: rows * columns + 4 * -(-rows // 32) * -(-columns // 32)
    )
    assert quantised_bytes(config) == fp8


def test_a_quantised_config_leaves_room_for_more_requests():
    plain, quantised = Qwen2Config(**SIZES), Qwen2Config(**SIZES, quantization_config=AWQ)
    rooms = [CALC.kv_budget_bytes(config, GiB, step_tokens=64) for config in (plain, quantised)]
    saved = (
        CALC.estimate_total_memory(plain, 1, 8)["model"]
        - CALC.estimate_total_memory(quantised, 1, 8)["model"]
    )
    assert rooms[1] - rooms[0] == pytest.approx(saved * GB)
    same = CALC.estimate_total_memory(quantised, 1, 8, dtype="bf16")
    assert same["model"] == CALC.estimate_total_memory(plain, 1, 8, dtype="bf16")["model"], (
        "a type that is given counts"
    )


def test_a_table_and_a_config_agree_on_the_linear_parts():
    shape = ModelShape.from_hf(FAMILIES["qwen3"]())
    alike = ModelShape("alike", shape.num_params, 4, 64, 4, 2, 16, 48, 96, qk_norm=True)
    assert shape.linear_params == alike.linear_params


@pytest.mark.parametrize("fields", [7, "awq", dict(quant_method="quip")])
def test_a_config_quantised_otherwise_is_refused(fields):
    config = FAMILIES["llama"]()
    config.quantization_config = fields
    with pytest.raises(UnknownScheme, match="quantised"):
        CALC.estimate_total_memory(config, 1, 8)


METHODS = [
    AWQ,
    FP8 | dict(activation_scheme="dynamic", modules_to_not_convert=["lm_head"]),
    dict(quant_method="gptq", bits=4, group_size=16, dynamic={"-:.*o_proj": {}}),
    dict(quant_method="mxfp4", modules_to_not_convert=["lm_head"]),
    compressed("pack-quantized", dict(num_bits=4, strategy="group", group_size=16, symmetric=True)),
    compressed("int-quantized", dict(num_bits=8, strategy="channel"), input_activations=dict(dynamic=False)),
]
WRONG = [None, -1, 0, 3, 7.5, float("nan"), "many", [], {}, True, 10**12, [0, 0], ["(", 3], {"a": 1}]


def damaged(rng, fields):
    """The fields, one of them missing or of another kind, at any depth."""
    name = rng.choice(sorted(fields))
    if isinstance(fields[name], dict) and fields[name] and rng.random() < 0.7:
        return {**fields, name: damaged(rng, fields[name])}
    if rng.random() < 0.3:
        return {key: value for key, value in fields.items() if key != name}
    return {**fields, name: rng.choice(WRONG)}


def test_damaged_schemes_are_sized_or_refused():
    rng, config, found = random.Random(0), FAMILIES["llama"](), []
    for _ in range(200):
        config.quantization_config = damaged(rng, damaged(rng, rng.choice(METHODS)))
        try:
            found.append(quantised_bytes(config))
        except UnknownScheme as error:
            found.append(str(error))
    sizes = [answer for answer in found if not isinstance(answer, str)]
    assert 20 < len(sizes) < 150
    assert all(type(size) is int and size > 0 for size in sizes)
    assert [words for words in found if isinstance(words, str) and (len(words) >= 200 or "\n" in words)] == []
