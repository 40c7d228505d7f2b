"""What the decoder reads of a config, and the refusal of what it cannot compute."""

from types import SimpleNamespace

import pytest

from helpers.model import UnsupportedArchitecture, build
from tests.tiny import SIZES


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(model_type="mamba"), "mamba"),
        (dict(hidden_act="gelu"), "gelu"),
        (dict(layer_types=["full_attention", "sliding_attention"]), "sliding-window"),
        (dict(rope_parameters={"rope_type": "longrope", "rope_theta": 1e4}), "longrope"),
        (dict(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}), "partial rotary"),
        (dict(quantization_config={"bits": 4}), "quantised"),
    ],
)
def test_what_it_cannot_compute_is_refused_by_name(change, named):
    config = SimpleNamespace(**{**SIZES, "model_type": "llama", "hidden_act": "silu", **change})
    with pytest.raises(UnsupportedArchitecture, match=named):
        build(config, {})
