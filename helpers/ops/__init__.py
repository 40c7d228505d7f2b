"""The few operators worth fusing, under one name and one signature for every device."""

from helpers.ops.torch_attention import attention, attention_rows, materialised_attention, write_kv_rows
from helpers.ops.torch_ops import add_rms_norm, linear, pack_weight, rms_norm, rotary, swiglu

__all__ = [
    "add_rms_norm",
    "attention",
    "attention_rows",
    "linear",
    "materialised_attention",
    "pack_weight",
    "rms_norm",
    "rotary",
    "swiglu",
    "write_kv_rows",
]
