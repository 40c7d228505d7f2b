"""The few operators worth fusing, under one name and one signature for every device. All chapters.

The plain-torch version serves every device. On an Ascend NPU the operator of the same name in `npu_ops` runs
instead. The device of an operator's first tensor decides, so that no other package of the library asks for
the device.
"""

from helpers.ops.block_tables import BlockTables
from helpers.ops.by_device import (
    add_rms_norm,
    attention,
    attention_int8_pages,
    attention_int8_rows,
    attention_lse,
    attention_pages,
    attention_rows,
    check_heads,
    check_pages,
    linear,
    linear_w8a8,
    linear_weight_only,
    materialised_attention,
    rms_norm,
    rotary,
    swiglu,
    write_int8_pages,
    write_int8_rows,
    write_kv_pages,
    write_kv_rows,
)
from helpers.ops.int8_cache import Int8, quantise_int8
from helpers.ops.products import packed_from
from helpers.ops.torch_ops import likeliest, pack_weight

__all__ = [
    "BlockTables",
    "Int8",
    "add_rms_norm",
    "attention",
    "attention_int8_pages",
    "attention_int8_rows",
    "attention_lse",
    "attention_pages",
    "attention_rows",
    "check_heads",
    "check_pages",
    "likeliest",
    "linear",
    "linear_w8a8",
    "linear_weight_only",
    "materialised_attention",
    "pack_weight",
    "packed_from",
    "quantise_int8",
    "rms_norm",
    "rotary",
    "swiglu",
    "write_int8_pages",
    "write_int8_rows",
    "write_kv_pages",
    "write_kv_rows",
]
