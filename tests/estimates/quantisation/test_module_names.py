"""Which modules a quantised config names: by beginning, by end, by expression, under any spelling."""

import pytest

from helpers.estimates import scheme_of
from tests.estimates.quantisation.layouts import LINEAR, compressed


@pytest.mark.parametrize(
    "fields",
    [
        dict(quant_method="awq", bits=4, group_size=128, modules_to_not_convert=["mlp.down_proj"]),
        dict(quant_method="gptq", bits=4, group_size=128, dynamic={"-:.*down_proj": {}}),
        dict(quant_method="fp8", modules_to_not_convert=["model.layers.3.mlp"]),
        dict(quant_method="fp8", modules_to_not_convert=["mlp.down_proj"]),
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


@pytest.mark.parametrize(
    "spelled", ["model.language_model.layers.3", "language_model.model.layers.3", "model.layers.3"]
)
def test_a_module_is_named_under_earlier_spellings(spelled):
    inner = LINEAR._replace(name="model.language_model.layers.3.mlp.down_proj")
    scheme = scheme_of(dict(quant_method="fp8", modules_to_not_convert=[spelled]))
    assert scheme.nbytes(inner) is None
    assert scheme.nbytes(inner._replace(name=inner.name.replace(".3.", ".4."))) is not None
