"""What a quantised config says is read once: its size and its tensors follow the same fields."""

from types import SimpleNamespace

import pytest
import torch

from helpers.compression import layouts
from helpers.estimates import UnknownScheme, quantised_bytes, scheme_of
from tests.estimates.quantisation.layouts import HEAD, LINEAR, compressed


def test_the_first_files_of_awq_call_the_bits_otherwise():
    new, old = (
        scheme_of({"quant_method": "awq", key: 4, "group_size": 64, "version": "gemm"}).nbytes(LINEAR)
        for key in ("bits", "w_bit")
    )
    assert new == old > 0
    assert callable(layouts.awq({"w_bit": 4}))


@pytest.mark.parametrize("reader", [layouts.awq, layouts.gptq])
def test_size_and_reader_refuse_the_same_bits(reader):
    fields = {"quant_method": reader.__name__, "bits": "four", "group_size": 64}
    for one in (scheme_of, reader):
        with pytest.raises(UnknownScheme, match="field bits"):
            one(fields)


def two_groups(last):
    """8 bits for what ends in `last`, 4 bits for what comes after."""
    fields = compressed("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32})
    first = {"targets": [f"re:.*{last}"], "weights": {"num_bits": 8, "strategy": "channel", "type": "int"}}
    return fields | {"config_groups": {"a": first | {"format": "int-quantized"}, **fields["config_groups"]}}


def test_the_first_group_that_names_a_module_decides():
    wide, narrow = (scheme_of(two_groups(last)).nbytes(LINEAR) for last in ("down_proj", "up_proj"))
    assert wide == LINEAR.elements + 2 * LINEAR.rows
    assert narrow == LINEAR.elements // 2 + 2 * LINEAR.elements // 32 + 16
    named_only = two_groups("down_proj")
    del named_only["config_groups"]["group_0"]
    assert scheme_of(named_only | {"ignore": []}).nbytes(HEAD) is None


@pytest.mark.parametrize("fields", [None, "int4", 4])
def test_fields_that_are_no_table_are_refused(fields):
    config = SimpleNamespace(quantization_config=fields, get_text_config=lambda: None, dtype=torch.bfloat16)
    with pytest.raises(UnknownScheme, match="no table of fields"):
        quantised_bytes(config)
