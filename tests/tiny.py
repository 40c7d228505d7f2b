"""Seeded two-layer models of a few thousand parameters, as `transformers` makes them, and our twin of each."""

import copy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from helpers.model import DecoderLM, build

SIZES: dict[str, Any] = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    attn_implementation="eager",
)
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)  # fmt: skip
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "llama tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama 3 rope": LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE),
    "llama linear rope": LlamaConfig(
        **SIZES, rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.0)
    ),
    "llama yarn rope": LlamaConfig(
        **SIZES,
        rope_parameters=dict(
            rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=64
        ),
    ),
    "llama wide heads": LlamaConfig(**SIZES, head_dim=16),
    "qwen2": Qwen2Config(**SIZES),
    "qwen2 tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "qwen3 tied, biases": Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True, attention_bias=True),
}


def reference(name: str, seed: int = 0) -> Any:
    """The seeded `transformers` model of that name, with every parameter random (norms and biases too)."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def twin(model: Any, dtype: torch.dtype = torch.float32) -> DecoderLM:
    """Our model with the same weights."""
    return build(model.config, model.state_dict(), dtype)
