"""A decoder built from a checkpoint's tensors: names translated, parts stacked, shapes checked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.model.checkpoint_files import with_base
from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def build(config: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> DecoderLM:
    """Return a model with a Hugging Face checkpoint's `config` and `tensors` (its names), converted to
    `dtype`, on the CPU.

    Tensors that the model does not use are named in one warning. Raises UnsupportedArchitecture, naming the
    difference, for a config that this decoder cannot compute, and ValueError for a tensor that is missing or
    of another shape.
    """
    cfg = DecoderConfig.from_hf(config)
    tensors = with_base(tensors)
    with torch.device("meta"):
        model = DecoderLM(cfg)
    parts_of = sources(cfg)
    account(cfg, {name for parts in parts_of.values() for name in parts}, tensors)
    state = {name: _gather(parts, tensors, dtype) for name, parts in parts_of.items()}
    for name, parameter in model.state_dict().items():
        if state[name].shape != parameter.shape:
            raise ValueError(
                f"{name}: expected shape {tuple(parameter.shape)}, the checkpoint gives {tuple(state[name].shape)}"
            )
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()


def sources(cfg: DecoderConfig) -> dict[str, list[str]]:
    """Return, for each parameter of the decoder, the checkpoint's tensors that make that parameter, stacked
    in this order.
    """
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


def account(cfg: DecoderConfig, used: set[str], tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError, naming it, for an unused tensor that belongs to the computation.

    Warn of all others in one line.
    """
    unused = [name for name in tensors if name not in used and not name.endswith("rotary_emb.inv_freq")]
    if cfg.tied and _HEAD in unused:
        if not torch.equal(tensors[_HEAD], tensors[_EMBEDDING]):
            raise ValueError(
                f"the config ties the output matrix to the embedding, the checkpoint has another {_HEAD}"
            )
        unused.remove(_HEAD)
    ours = [name for name in unused if (place := _LAYER.match(name)) and int(place[1]) < cfg.num_layers]
    if ours:
        raise ValueError(
            f"the checkpoint has {ours[0]!r}, which this model does not use; "
            f"{len(ours)} such tensors would change the result"
        )
    if unused:
        warnings.warn(
            f"the checkpoint has {len(unused)} tensors that are not used, such as {unused[0]!r}", stacklevel=3
        )


def _gather(parts: list[str], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Return the named tensors stacked along their first dimension, in memory of their own."""
    missing = [name for name in parts if name not in tensors]
    if missing:
        raise ValueError(f"the checkpoint has no tensor {missing[0]!r}")
    packed = [name for name in parts if tensors[name].dtype not in _FLOATS]
    if packed:
        kind = str(tensors[packed[0]].dtype).removeprefix("torch.")
        raise ValueError(
            f"the checkpoint is quantised: {packed[0]!r} is stored as {kind}, and the course computes floats"
        )
    return torch.cat([tensors[name].to(dtype) for name in parts])
