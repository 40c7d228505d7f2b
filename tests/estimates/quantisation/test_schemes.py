"""What a quantisation packs, and how large: against tensors made in each layout's own shapes."""

import pytest

from helpers.estimates import UnknownScheme, scheme_of
from tests.estimates.quantisation.layouts import (
    COLUMNS,
    EXPERT,
    F8,
    F16,
    F32,
    HEAD,
    I32,
    LINEAR,
    NORM,
    ROWS,
    TOWER,
    U8,
    size,
)

LAYOUTS = {
    "awq": (dict(quant_method="awq", bits=4, group_size=128),
            ((I32, COLUMNS, ROWS // 8), (I32, COLUMNS // 128, ROWS // 8), (F16, COLUMNS // 128, ROWS))),
    "awq, one group": (dict(quant_method="awq", bits=4, group_size=-1), ((I32, COLUMNS, ROWS // 8), (I32, 1, ROWS // 8), (F16, 1, ROWS))),
    "gptq": (dict(quant_method="gptq", bits=4, group_size=128, desc_act=False),
             ((I32, COLUMNS // 8, ROWS), (I32, 2, ROWS // 8), (F16, 2, ROWS), (I32, COLUMNS))),
    "gptq, 8 bits": (dict(quant_method="gptq", bits=8, group_size=32), ((I32, COLUMNS // 4, ROWS), (I32, 8, ROWS // 4), (F16, 8, ROWS), (I32, COLUMNS))),
    "fp8, blocks": (dict(quant_method="fp8", weight_block_size=[128, 128]), ((F8, ROWS, COLUMNS), (F32, 1, 2))),
    "fp8, static": (dict(quant_method="fp8", activation_scheme="static"), ((F8, ROWS, COLUMNS), (F32, 1), (F32, 1))),
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
    ],
)
def test_an_unknown_scheme_is_named_in_one_sentence(fields, words):
    with pytest.raises(UnknownScheme, match=words) as refusal:
        scheme_of(fields)
    assert len(str(refusal.value)) < 200
