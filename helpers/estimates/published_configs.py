"""Published models whose layers differ: the fields of their configs, from which `transformers` builds each
layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from helpers.model.meta_model import config_from_dict
from helpers.model.shapes import PUBLISHED, ModelShape


class PublishedConfig(NamedTuple):
    """What sizes need of a published `config.json`; all other fields are the model type's own defaults."""

    fields: Mapping[str, Any]
    num_params: int
    """Weights of the published checkpoint, layers for multi-token prediction left out."""
    source: str


_MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
}  # fmt: skip
_FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
_HUB = "config.json and size of the safetensors on the model's hub page"

PUBLISHED_CONFIGS = {
    "Mistral-7B-v0.1": PublishedConfig(
        {"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 32768}, 7_241_732_096, _HUB
    ),
    "Gemma-3-1B": PublishedConfig(
        {"model_type": "gemma3_text", "num_hidden_layers": 26, "hidden_size": 1152, "intermediate_size": 6912,
         "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512,
         "vocab_size": 262144, "max_position_embeddings": 32768},
        999_885_952, _HUB,
    ),
    "Mixtral-8x7B": PublishedConfig(
        {"model_type": "mixtral", "max_position_embeddings": 32768}, 46_702_792_704, _HUB
    ),
    "Qwen3-30B-A3B": PublishedConfig(
        {"model_type": "qwen3_moe", "num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144,
         "moe_intermediate_size": 768, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
         "num_experts": 128, "num_experts_per_tok": 8, "max_position_embeddings": 40960},
        30_532_122_624, _HUB,
    ),
    "gpt-oss-20b": PublishedConfig(
        {"model_type": "gpt_oss", "num_hidden_layers": 24, "num_local_experts": 32, "quantization_config": _MXFP4},
        20_914_757_184, "arXiv:2508.10925, table 1, and the index of the hub page",
    ),
    "gpt-oss-120b": PublishedConfig(
        {"model_type": "gpt_oss", "num_hidden_layers": 36, "num_local_experts": 128, "quantization_config": _MXFP4},
        116_829_156_672, "arXiv:2508.10925, table 1, and the index of the hub page",
    ),
    "Qwen3-Next-80B-A3B": PublishedConfig(
        {"model_type": "qwen3_next", "max_position_embeddings": 262144}, 79_674_391_296, _HUB
    ),
    "DeepSeek-V3": PublishedConfig(
        {"model_type": "deepseek_v3", "max_position_embeddings": 163840, "quantization_config": _FP8},
        671_026_404_352, "arXiv:2412.19437, section 4.2, and config.json of the hub page",
    ),
}  # fmt: skip


def published_config(name: str) -> Any:
    """Return the `transformers` config of a published model, in bf16 where nothing is quantised.

    Raises ValueError, with the known names, for another name.
    """
    if name not in PUBLISHED_CONFIGS:
        raise ValueError(f"no config of {name!r} is known here; there are {', '.join(PUBLISHED_CONFIGS)}")
    return config_from_dict({**PUBLISHED_CONFIGS[name].fields, "dtype": "bfloat16"})


@cache
def published_shape(name: str) -> ModelShape:
    """Return a published model's shape: a row of `PUBLISHED`, or read off the model that `transformers` builds.

    The model is built on the meta device, which takes seconds; a shape is read once. Raises ValueError, with
    the known names, for another name.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    return replace(ModelShape.from_hf(published_config(name)), name=name)
