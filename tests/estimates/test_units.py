"""The bytes of one stored number, with its group's scale and zero point."""

import pytest

from helpers.estimates import bytes_per_element


@pytest.mark.parametrize(
    ("dtype", "options", "nbytes"),
    [
        ("fp32", {}, 4),
        ("fp16", {}, 2),
        ("bf16", {}, 2),
        ("fp8", {}, 1),
        ("int8", {}, 1),
        ("int4", {}, 0.5 + 2.5 / 128),
        ("int4", {"group_size": 32}, 0.5 + 2.5 / 32),
        ("int4", {"group_size": 32, "zero_point_bits": 16}, 20 / 32),  # GGUF's Q4_1: 20 bytes for 32 weights
        ("int8", {"group_size": 32, "zero_point_bits": 0}, 34 / 32),  # GGUF's Q8_0: 34 bytes for 32 weights
    ],
)
def test_bytes_per_element(dtype, options, nbytes):
    assert bytes_per_element(dtype, **options) == pytest.approx(nbytes, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bytes_per_element("fp12"), "unknown dtype 'fp12'; known are fp32"),
        (lambda: bytes_per_element("int4", group_size=0), "group_size must be above 0, got 0"),
    ],
)
def test_an_unknown_type_or_an_empty_group_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
