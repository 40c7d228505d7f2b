"""Sizes of matrices that compressed-tensors packs: against tensors made in each format's own shapes."""

import pytest

from helpers.estimates import UnknownScheme, scheme_of
from tests.estimates.quantisation.layouts import (
    COLUMNS,
    EXPERT,
    F8,
    F16,
    F32,
    HEAD,
    I8,
    I32,
    I64,
    LINEAR,
    NORM,
    ROWS,
    U8,
    compressed,
    size,
)

LAYOUTS = {
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


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (compressed("marlin-24", dict(num_bits=4, strategy="channel")), "format 'marlin-24' with 4 bits"),
        (compressed("int-quantized", dict(num_bits=4, strategy="channel")), "'int-quantized' with 4 bits"),
        (compressed("pack-quantized", dict(num_bits=4, strategy="spiral")), "strategy 'spiral'"),
        (dict(quant_method="compressed-tensors"), "cannot be read"),
    ],
)
def test_an_unknown_form_is_named_in_one_sentence(fields, words):
    with pytest.raises(UnknownScheme, match=words) as refusal:
        scheme_of(fields)
    assert len(str(refusal.value)) < 200
