"""Shapes of published models and of configs: sizes, and the number of weights."""

import pytest

from helpers.model import PUBLISHED, ModelShape, count_params
from tests.tiny import CONFIGS

PUBLISHED_CONFIGS = {
    "SmolLM2-135M": ("llama", 8192, True),
    "Qwen3-0.6B": ("qwen3", 40960, True),
    "Llama-2-7B": ("llama", 4096, False),
    "Qwen2.5-7B": ("qwen2", 32768, False),
    "Llama-3-8B": ("llama", 8192, False),
    "Qwen3-32B": ("qwen3", 40960, False),
    "Llama-3-70B": ("llama", 8192, False),
}


@pytest.mark.parametrize("name", PUBLISHED_CONFIGS)
def test_published_weight_counts_follow_from_the_published_sizes(name):
    shape, (kind, positions, tied) = PUBLISHED[name], PUBLISHED_CONFIGS[name]
    config = type(CONFIGS[kind])(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
    )
    assert count_params(config) == shape.num_params
    from_config = ModelShape.from_hf(config)
    assert from_config.kv_elements_per_token == shape.kv_elements_per_token
    assert from_config.qk_norm == shape.qk_norm
