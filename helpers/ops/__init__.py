"""The few operators worth fusing, under one name and one signature for every device. All chapters.

The plain-torch version serves every device. On an Ascend NPU the operator of the same name in `npu_ops` runs
instead. The device of an operator's first tensor decides, so that no other package of the library asks for
the device.
"""

from helpers.ops.block_tables import BlockTables
from helpers.ops.by_device import (
    add_rms_norm,
    attention,
    attention_lse,
    attention_pages,
    attention_rows,
    check_heads,
    check_pages,
    linear,
    materialised_attention,
    rms_norm,
    rotary,
    swiglu,
    write_kv_pages,
    write_kv_rows,
)
from helpers.ops.products import packed_from
from helpers.ops.torch_ops import likeliest, pack_weight

__all__ = [
    "BlockTables",
    "add_rms_norm",
    "attention",
    "attention_lse",
    "attention_pages",
    "attention_rows",
    "check_heads",
    "check_pages",
    "likeliest",
    "linear",
    "materialised_attention",
    "pack_weight",
    "packed_from",
    "rms_norm",
    "rotary",
    "swiglu",
    "write_kv_pages",
    "write_kv_rows",
]
