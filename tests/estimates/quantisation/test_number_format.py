"""Formats as data: bytes by hand, by the calculator and by checkpoints' schemes are the same."""

import pytest

from helpers.estimates import MemoryCalculator, NumberFormat, bytes_per_element, scheme_of
from tests.estimates.quantisation.layouts import LINEAR


def test_bytes_by_hand():
    q4_1 = NumberFormat(4, 32, "minimum")
    assert q4_1.nbytes(10, 64) == 10 * 2 * 20, "GGUF's Q4_1: 20 bytes for 32 weights"
    assert NumberFormat(8, 32).nbytes(1, 32) == 34, "GGUF's Q8_0"
    assert NumberFormat(3, "row", "zero", "fp32").nbytes(5, 11) == 5 * 5 + 5 * 4 + 2
    assert NumberFormat(4, "tensor", "minimum", "bf16").nbytes(3, 5) == 3 * 3 + 2 + 2
    assert NumberFormat(4, 32).nbytes(2, 33) == 2 * 17 + 2 * 2 * 2, "a shorter group has a scale, too"


def test_the_calculator_takes_a_format():
    awq = NumberFormat(4, 128, "zero")
    assert bytes_per_element(awq) == bytes_per_element("int4", 128) == awq.nbytes(128, 128) / 128**2
    assert MemoryCalculator().calculate_model_memory(10**9, awq) == 4 * 1.0390625 / 8


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_checkpoint_is_a_format(method):
    scheme = scheme_of(dict(quant_method=method, bits=4, group_size=32))
    order = 4 * LINEAR.columns if method == "gptq" else 0
    assert scheme.nbytes(LINEAR) == NumberFormat(4, 32, "zero").nbytes(LINEAR.rows, LINEAR.columns) + order


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((1,), "2 to 8 bits"), ((9,), "2 to 8 bits"), ((4, 0), "group is"), ((4, "column"), "group is"),
        ((4, 32, "max"), "offset is"), ((4, 32, "zero", "fp8"), "scales are"),
    ],
)  # fmt: skip
def test_a_format_that_does_not_exist_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        NumberFormat(*fields)


def test_names():
    assert str(NumberFormat(4, 32, "minimum")) == "int4, groups of 32, minimum"
    assert str(NumberFormat(8)) == "int8, one scale a row"
