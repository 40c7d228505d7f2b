"""What a quantisation packs, and how large: against tensors made in each layout's own shapes."""

import pytest
import torch

from helpers.estimates import UnknownScheme, WeightShape, scheme_of

ROWS, COLUMNS = 96, 256
LINEAR = WeightShape("model.layers.3.mlp.down_proj", ROWS, COLUMNS, "linear", True)
EXPERT = WeightShape("model.layers.3.mlp.experts.7.up_proj", ROWS, COLUMNS, "expert", True)
HEAD = WeightShape("lm_head", ROWS, COLUMNS, "head", False)
NORM = WeightShape("model.norm", 1, COLUMNS, "other", False)
TOWER = WeightShape("model.visual.blocks.0.mlp.fc1", ROWS, COLUMNS, "linear", False)


def size(*tensors):
    """Bytes of tensors given as (type, sides ...)."""
    return sum(torch.empty(*sides, dtype=dtype, device="meta").nbytes for dtype, *sides in tensors)


def compressed(form, weights, **group):
    """A quantization_config as compressed-tensors writes it."""
    groups = {"group_0": {"targets": ["Linear"], "weights": {"type": "int", **weights}, **group}}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "ignore": ["lm_head"],
        "config_groups": groups,
    }


I32, F16, F32, I8, U8, F8, I64 = (torch.int32, torch.float16, torch.float32, torch.int8, torch.uint8, torch.float8_e4m3fn,
                                 torch.int64)  # fmt: skip
LAYOUTS = {
    "awq": (dict(quant_method="awq", bits=4, group_size=128),
            ((I32, COLUMNS, ROWS // 8), (I32, COLUMNS // 128, ROWS // 8), (F16, COLUMNS // 128, ROWS))),
    "awq, one group": (dict(quant_method="awq", bits=4, group_size=-1), ((I32, COLUMNS, ROWS // 8), (I32, 1, ROWS // 8), (F16, 1, ROWS))),
    "gptq": (dict(quant_method="gptq", bits=4, group_size=128, desc_act=False),
             ((I32, COLUMNS // 8, ROWS), (I32, 2, ROWS // 8), (F16, 2, ROWS), (I32, COLUMNS))),
    "gptq, 8 bits": (dict(quant_method="gptq", bits=8, group_size=32), ((I32, COLUMNS // 4, ROWS), (I32, 8, ROWS // 4), (F16, 8, ROWS), (I32, COLUMNS))),
    "fp8, blocks": (dict(quant_method="fp8", weight_block_size=[128, 128]), ((F8, ROWS, COLUMNS), (F32, 1, 2))),
    "fp8, static": (dict(quant_method="fp8", activation_scheme="static"), ((F8, ROWS, COLUMNS), (F32, 1), (F32, 1))),
    "int4, groups": (compressed("pack-quantized", dict(num_bits=4, strategy="group", group_size=32, symmetric=True)),
                     ((I32, ROWS, COLUMNS // 8), (F16, ROWS, 8), (I64, 2))),
    "int4, zero points": (compressed("pack-quantized", dict(num_bits=4, strategy="group", group_size=64, symmetric=False)),
                          ((I32, ROWS, COLUMNS // 8), (F16, ROWS, 4), (I32, ROWS // 8, 4), (I64, 2))),
    "int4, columns sorted": (compressed("pack-quantized", dict(num_bits=4, strategy="group", group_size=128, actorder="group")),
                             ((I32, ROWS, COLUMNS // 8), (F16, ROWS, 2), (I32, COLUMNS), (I64, 2))),
    "int8, channels": (compressed("int-quantized", dict(num_bits=8, strategy="channel")), ((I8, ROWS, COLUMNS), (F16, ROWS, 1))),
    "fp8, static inputs": (compressed("float-quantized", dict(num_bits=8, strategy="tensor"), input_activations=dict(dynamic=False)),
                           ((F8, ROWS, COLUMNS), (F16, 1), (F16, 1))),
    "fp8, channels": (compressed("float-quantized", dict(num_bits=8, strategy="channel"), input_activations=dict(dynamic=True)),
                      ((F8, ROWS, COLUMNS), (F16, ROWS, 1))),
    "fp8, blocks of compressed-tensors": (compressed("float-quantized", dict(num_bits=8, strategy="block", block_structure=[128, 128])),
                                          ((F8, ROWS, COLUMNS), (F16, 1, 2))),
    "nvfp4": (compressed("nvfp4-pack-quantized", dict(num_bits=4, strategy="tensor_group", group_size=16), input_activations=dict(dynamic="local")),
              ((U8, ROWS, COLUMNS // 2), (F8, ROWS, COLUMNS // 16), (F32, 1), (F32, 1))),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_packed_matrix_has_its_layouts_bytes(name):
    fields, tensors = LAYOUTS[name]
    scheme = scheme_of(fields)
    assert scheme.nbytes(LINEAR) == scheme.nbytes(EXPERT) == size(*tensors)
    assert scheme.nbytes(HEAD) is scheme.nbytes(NORM) is None


def test_mxfp4_packs_the_experts_alone():
    scheme = scheme_of(
        dict(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "lm_head"])
    )
    assert scheme.nbytes(EXPERT) == size((U8, ROWS, COLUMNS // 32, 16), (U8, ROWS, COLUMNS // 32))
    assert scheme.nbytes(LINEAR) is scheme.nbytes(HEAD) is None


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_tower_stays_as_it_is(method):
    assert scheme_of(dict(quant_method=method, bits=4, group_size=128)).nbytes(TOWER) is None


@pytest.mark.parametrize(
    "fields",
    [
        dict(quant_method="awq", bits=4, group_size=128, modules_to_not_convert=["mlp.down_proj"]),
        dict(quant_method="gptq", bits=4, group_size=128, dynamic={"-:.*down_proj": {}}),
        dict(quant_method="fp8", modules_to_not_convert=["model.layers.3.mlp"]),
        {
            **compressed("int-quantized", dict(num_bits=8, strategy="channel")),
            "ignore": ["re:.*mlp.*", "lm_head"],
        },
        {
            **compressed("int-quantized", dict(num_bits=8, strategy="channel")),
            "ignore": ["layers.3.mlp.down_proj"],
        },
    ],
)
def test_what_a_config_leaves_out_stays_as_it_is(fields):
    other = LINEAR._replace(name="model.layers.3.self_attn.q_proj")
    scheme = scheme_of(fields)
    assert scheme.nbytes(LINEAR) is None
    assert scheme.nbytes(other) is not None


def test_a_prefix_ends_at_a_modules_name():
    scheme = scheme_of(dict(quant_method="fp8", modules_to_not_convert=["model.layers.1"]))
    assert scheme.nbytes(LINEAR._replace(name="model.layers.1.mlp.up_proj")) is None
    assert scheme.nbytes(LINEAR._replace(name="model.layers.11.mlp.up_proj")) is not None


def test_gptq_has_exceptions_with_sizes_of_their_own():
    scheme = scheme_of(
        dict(
            quant_method="gptq", bits=4, group_size=128, lm_head=True, dynamic={"+:.*down_proj": {"bits": 8}}
        )
    )
    eight = scheme_of(dict(quant_method="gptq", bits=8, group_size=128))
    assert scheme.nbytes(LINEAR) == eight.nbytes(LINEAR) > scheme.nbytes(EXPERT)
    assert scheme.nbytes(HEAD) == scheme.nbytes(EXPERT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(quant_method="bitsandbytes"), "quantised as 'bitsandbytes'"),
        ({}, "without a quant_method"),
        (dict(quant_method="awq", bits="four"), "field bits of quantization_config is 'four'"),
        (dict(quant_method="gptq", bits=True), "field bits"),
        (dict(quant_method="fp8", weight_block_size=3), "cannot be read"),
        (compressed("marlin-24", dict(num_bits=4, strategy="channel")), "format 'marlin-24' with 4 bits"),
        (compressed("int-quantized", dict(num_bits=4, strategy="channel")), "'int-quantized' with 4 bits"),
        (compressed("pack-quantized", dict(num_bits=4, strategy="spiral")), "strategy 'spiral'"),
        (dict(quant_method="compressed-tensors"), "cannot be read"),
    ],
)
def test_an_unknown_scheme_is_named_in_one_sentence(fields, words):
    with pytest.raises(UnknownScheme, match=words) as refusal:
        scheme_of(fields)
    assert len(str(refusal.value)) < 200
