"""The MLP's width and gate against the tensors that `transformers`' own models hold at once while they run."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from helpers.estimates import activation_bytes
from helpers.machine import peak_memory
from helpers.model import ModelShape
from tests.families import FAMILIES, family

WIDE = dict(intermediate_size=1024, num_hidden_layers=2)
UNGATED = {
    "apertus": lambda: family("apertus", **WIDE, hidden_act="relu"),
    "falcon": lambda: family("falcon", ffn_hidden_size=1024, num_hidden_layers=2, activation="gelu",
                             num_key_value_heads=None),
    "gpt2": lambda: family("gpt2", n_embd=64, n_inner=1024, n_head=4, n_layer=2, activation_function="gelu"),
    "gpt-bigcode": lambda: family("gpt_bigcode", n_embd=64, n_inner=1024, n_head=4, n_layer=2, activation_function="gelu",
                                  num_key_value_heads=None),
    "gpt-neox": lambda: family("gpt_neox", **WIDE, hidden_act="gelu"),
    "opt": lambda: family("opt", ffn_dim=1024, word_embed_proj_dim=64, num_hidden_layers=2),
    "phi": lambda: family("phi", **WIDE, hidden_act="gelu"),
    "starcoder2": lambda: family("starcoder2", **WIDE, hidden_act="gelu"),
}  # fmt: skip
GATED = {
    "llama": lambda: family("llama", **WIDE),
    "lfm2": lambda: family("lfm2", block_ff_dim=1536, block_multiple_of=256, num_hidden_layers=2,
                           layer_types=["conv", "full_attention"]),
    "stablelm": lambda: family("stablelm", **WIDE),
}  # fmt: skip


def most_at_once(config, tokens):
    """Bytes of tensors that `transformers` holds at most while a layer computes a prompt."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    ids = torch.full((1, tokens), 3)
    with torch.no_grad(), peak_memory(torch.device("cpu")) as peak:
        model(input_ids=ids, use_cache=False, logits_to_keep=1)
    return peak.nbytes


@pytest.mark.parametrize("name", [*UNGATED, *GATED])
def test_as_much_is_alive_at_once_as_in_transformers(name):
    """Beside the MLP few numbers are alive, and each model holds other ones: a tensor of the MLP's width is a third, or half."""
    config = {**UNGATED, **GATED}[name]()
    shape = ModelShape.from_hf(config)
    assert shape.gated_mlp == (name in GATED)
    assert activation_bytes(shape, 1, 128, 4) == pytest.approx(most_at_once(config, 128), rel=0.2)


@pytest.mark.parametrize(
    ("name", "inner", "gated"),
    [
        ("deepseek-v3", 48, True),
        ("gemma4, shared", 48, True),
        ("bloom", 4 * 64, False),
        ("gptj", 4 * 64, False),
        ("gpt-oss", 2 * 48, True),
        ("jamba", 2 * 48, True),
        ("mpt", 4 * 64, False),
        ("nemotron-h", 48, False),
        ("phi3", 48, True),
        ("qwen3-moe", 2 * 16, True),
    ],
)
def test_the_widest_part_counts_and_all_chosen_experts(name, inner, gated):
    own = dict(d_model=64, n_heads=4, n_layers=2, n_embd=64, n_head=4, n_layer=2, rotary_dim=8)
    config = FAMILIES[name]() if name in FAMILIES else family(name, **own)
    shape = ModelShape.from_hf(config)
    assert (shape.intermediate_size, shape.gated_mlp) == (inner, gated)


@pytest.mark.parametrize("model_type", ["falcon", "gpt_bigcode"])
def test_key_heads_without_a_name_are_those_of_the_cache(model_type):
    """Both types share one key head by a switch (multi_query), and their configs name no number of key heads."""
    assert ModelShape.from_hf(UNGATED[model_type.replace("_", "-")]()).num_kv_heads == 1


def test_a_head_of_latent_attention_has_both_parts():
    assert ModelShape.from_hf(FAMILIES["deepseek-v3"]()).head_dim == 16 + 8
