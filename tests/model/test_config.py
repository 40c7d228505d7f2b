"""What the decoder reads of a config, and the refusal of what it cannot compute."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig

from helpers.model import DecoderConfig, UnreadableConfig, UnsupportedArchitecture, build
from tests.tiny import SIZES


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(model_type="mamba"), "mamba"),
        (dict(hidden_act="gelu"), "gelu"),
        (dict(layer_types=["full_attention", "sliding_attention"]), "sliding windows is not supported"),
        (dict(rope_parameters={"rope_type": "longrope", "rope_theta": 1e4}), "longrope"),
        (dict(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}), "partial rotary"),
        (dict(quantization_config={"bits": 4}), "quantised with 'an unknown scheme'"),
        (dict(quantization_config={"quant_method": "gptq"}), "quantised with 'gptq'"),
        (dict(is_causal=False), "is_causal: false"),
    ],
)
def test_what_it_cannot_compute_is_refused_by_name(change, named):
    config = SimpleNamespace(**{**SIZES, "model_type": "llama", "hidden_act": "silu", **change})
    with pytest.raises(UnsupportedArchitecture, match=named):
        build(config, {})


def config(kind, **fields):
    return AutoConfig.for_model(kind, **{**SIZES, **fields})


@pytest.mark.parametrize("flag", ["attention_bias", "mlp_bias"])
def test_a_flag_of_one_architecture_is_not_read_in_another(flag):
    """Qwen2 has biases on q, k and v and nowhere else, whatever its config carries; Qwen3 has no MLP bias."""
    plain = DecoderConfig.from_hf(config("qwen2"))
    assert (plain.qkv_bias, plain.o_bias, plain.mlp_bias) == (True, False, False)
    assert DecoderConfig.from_hf(config("qwen2", **{flag: True})) == plain
    qwen3, llama = (DecoderConfig.from_hf(config(kind, **{flag: True})) for kind in ("qwen3", "llama"))
    assert qwen3.mlp_bias is False
    assert qwen3.o_bias == llama.o_bias == (flag == "attention_bias")
    assert llama.mlp_bias == (flag == "mlp_bias")


@pytest.mark.parametrize(
    ("rope", "positions"),
    [
        (dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64), 256),
        (dict(rope_type="yarn", factor=2.5, original_max_position_embeddings=40), 100),
        (dict(rope_type="linear", factor=4.0), 64),
        (dict(rope_type="default"), 64),
    ],
)
def test_yarn_reaches_its_factor_times_the_original_positions(rope, positions):
    cfg = DecoderConfig.from_hf(
        config("qwen2", max_position_embeddings=64, rope_parameters={"rope_theta": 1e4, **rope})
    )
    assert cfg.max_positions == positions


def test_logits_beyond_the_old_end_are_those_of_transformers():
    from transformers import AutoModelForCausalLM

    from helpers.model import FlatBatch

    rope = dict(rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=64)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config("qwen2", max_position_embeddings=64, rope_parameters=rope)
    ).eval()
    ids = [(7 * i + 3) % 97 for i in range(200)]
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0]
    got = build(model.config, model.state_dict())(FlatBatch.pack([ids]), logits="all")
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_a_damaged_rotary_field_is_refused_in_one_sentence():
    damaged = config("llama")
    damaged.rope_parameters = {"rope_type": "yarn", "rope_theta": 1e4}
    with pytest.raises(UnreadableConfig, match=r"'llama': the rotary embedding cannot be built"):
        DecoderConfig.from_hf(damaged)
