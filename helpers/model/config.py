"""What the decoder needs to know of a Hugging Face config, and the refusal of what the decoder cannot
compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from helpers.model.sizing.refusal import refusing

# Differences of the three architectures: bias on q, k and v; norm on each head's q and k; the flags they read.
_ARCHITECTURES = {
    "llama": (False, False, ("attention_bias", "mlp_bias")),
    "qwen2": (True, False, ()),
    "qwen3": (False, True, ("attention_bias",)),
}
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")


class UnsupportedArchitecture(ValueError):
    """A checkpoint whose computation differs from what `helpers.model.decoder` does."""


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder's sizes and switches; lengths in elements or tokens."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    tied: bool
    """Whether the output matrix is the embedding matrix."""
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    inv_freq: tuple[float, ...]
    """`head_dim / 2` rotary frequencies in radians per position, scaling applied."""
    rope_scale: float
    """Factor on cos and sin; 1 except for YaRN (arXiv:2309.00071)."""

    @classmethod
    def from_hf(cls, config: Any) -> DecoderConfig:
        """Return the decoder's view of a `transformers` config.

        Raise UnsupportedArchitecture, naming what is refused.
        """
        _refuse_unsupported(config)
        qkv_bias, qk_norm, flags = _ARCHITECTURES[config.model_type]
        bias, mlp_bias = (
            name in flags and bool(getattr(config, name, False)) for name in ("attention_bias", "mlp_bias")
        )
        with refusing(config.model_type, "the rotary embedding"):
            inv_freq, rope_scale = _rotary_frequencies(config)
            reach = _reach(config)
        return cls(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=head_dim(config),
            max_positions=reach,
            rms_norm_eps=config.rms_norm_eps,
            tied=bool(config.tie_word_embeddings),
            qkv_bias=qkv_bias or bias,
            o_bias=bias,
            mlp_bias=mlp_bias,
            qk_norm=qk_norm,
            inv_freq=inv_freq,
            rope_scale=rope_scale,
        )


def head_dim(config: Any) -> int:
    """Return the elements of a head: the config's own figure, or hidden size over query heads where there is
    none.
    """
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _refuse_unsupported(config: Any) -> None:
    """Raise UnsupportedArchitecture for anything that this decoder would compute wrongly."""
    kind = getattr(config, "model_type", None)
    rope = getattr(config, "rope_parameters", None) or {}
    problems = {
        f"architecture {kind!r}": kind not in _ARCHITECTURES,
        f"activation {getattr(config, 'hidden_act', None)!r}": getattr(config, "hidden_act", "silu")
        != "silu",
        f"a checkpoint quantised with {_scheme(config)!r}": _scheme(config) is not None,
        "attention to later tokens (is_causal: false)": getattr(config, "is_causal", True) is False,
        "attention in sliding windows": any(
            t != "full_attention" for t in getattr(config, "layer_types", None) or ()
        ),
        f"rope type {rope.get('rope_type')!r}": rope.get("rope_type", "default") not in _ROPE_TYPES,
        "partial rotary embedding": rope.get("partial_rotary_factor", 1.0) != 1.0,
    }
    found = [name for name, wrong in problems.items() if wrong]
    if found:
        known = ", ".join(_ARCHITECTURES)
        raise UnsupportedArchitecture(
            f"{found[0]} is not supported; this decoder computes {known} with silu and full attention"
        )


def _scheme(config: Any) -> str | None:
    """Return the name of a config's quantisation; None where there is none."""
    fields = getattr(config, "quantization_config", None)
    if fields is None:
        return None
    named = fields.get("quant_method") if isinstance(fields, dict) else getattr(fields, "quant_method", None)
    return str(getattr(named, "value", named) or "an unknown scheme")


def _reach(config: Any) -> int:
    """Return the positions that a model can represent: YaRN stretches the original ones by its factor
    (arXiv:2309.00071).

    Published configs leave `max_position_embeddings` as it was when they add YaRN.
    """
    rope = config.rope_parameters
    original = rope.get("original_max_position_embeddings")
    if rope.get("rope_type") == "yarn" and original:
        return round(float(original) * float(rope["factor"]))
    return int(config.max_position_embeddings)


def _rotary_frequencies(config: Any) -> tuple[tuple[float, ...], float]:
    """Return `(inverse frequencies, factor on cos and sin)`.

    Scaled variants come from transformers' own functions.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = config.rope_parameters
    if rope.get("rope_type", "default") == "default":
        dim = head_dim(config)
        exponents = torch.arange(0, dim, 2).float() / dim
        return tuple((1.0 / rope["rope_theta"] ** exponents).tolist()), 1.0
    inv_freq, scale = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
    return tuple(inv_freq.tolist()), float(scale)
