"""The few operators worth fusing, under one name and one signature for every device."""

from helpers.ops.torch_ops import (
    add_rms_norm,
    attention,
    linear,
    materialised_attention,
    pack_weight,
    rms_norm,
    rotary,
    swiglu,
)

__all__ = [
    "add_rms_norm",
    "attention",
    "linear",
    "materialised_attention",
    "pack_weight",
    "rms_norm",
    "rotary",
    "swiglu",
]
