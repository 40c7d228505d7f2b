"""A decoder built from a checkpoint's tensors: names translated, parts stacked, shapes checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM


def build(config: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> DecoderLM:
    """Return a model with a Hugging Face checkpoint's `config` and `tensors` (its names), converted to `dtype`, on the CPU.

    Raises UnsupportedArchitecture, naming the difference, for a config that this decoder cannot compute, and ValueError for a
    tensor that is missing or of another shape.
    """
    cfg = DecoderConfig.from_hf(config)
    with torch.device("meta"):
        model = DecoderLM(cfg)
    state = {name: _gather(parts, tensors, dtype) for name, parts in _sources(cfg).items()}
    for name, parameter in model.state_dict().items():
        if state[name].shape != parameter.shape:
            raise ValueError(
                f"{name}: expected shape {tuple(parameter.shape)}, the checkpoint gives {tuple(state[name].shape)}"
            )
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()


def _sources(cfg: DecoderConfig) -> dict[str, list[str]]:
    """Return, for each parameter of the decoder, the checkpoint's tensors that make that parameter, stacked in this order."""
    names = {"embed_tokens.weight": ["model.embed_tokens.weight"], "norm": ["model.norm.weight"]}
    if not cfg.tied:
        names["lm_head.weight"] = ["lm_head.weight"]
    for i in range(cfg.num_layers):
        ours, theirs = f"layers.{i}", f"model.layers.{i}"
        names[f"{ours}.input_norm"] = [f"{theirs}.input_layernorm.weight"]
        names[f"{ours}.post_norm"] = [f"{theirs}.post_attention_layernorm.weight"]
        if cfg.qk_norm:
            names |= {f"{ours}.attn.{x}_norm": [f"{theirs}.self_attn.{x}_norm.weight"] for x in "qk"}
        for target, parts, bias in (
            ("attn.qkv_proj", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], cfg.qkv_bias),
            ("attn.o_proj", ["self_attn.o_proj"], cfg.o_bias),
            ("mlp.gate_up_proj", ["mlp.gate_proj", "mlp.up_proj"], cfg.mlp_bias),
            ("mlp.down_proj", ["mlp.down_proj"], cfg.mlp_bias),
        ):
            for kind in ("weight", "bias") if bias else ("weight",):
                names[f"{ours}.{target}.{kind}"] = [f"{theirs}.{part}.{kind}" for part in parts]
    return names


def _gather(parts: list[str], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Return the named tensors stacked along their first dimension, in memory of their own."""
    missing = [name for name in parts if name not in tensors]
    if missing:
        raise ValueError(f"the checkpoint has no tensor {missing[0]!r}")
    return torch.cat([tensors[name].to(dtype) for name in parts])
