"""The few operators worth fusing, under one name and one signature for every device.

The plain-torch version serves every device. On an Ascend NPU the operator of the same name in `npu_ops` runs
instead, on a CPU that in `native_attention` where there is one. The device of an operator's first tensor
decides, so that no other package of the library asks for the device.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from torch import Tensor

from helpers.ops import native_attention, torch_attention, torch_ops

P = ParamSpec("P")
R = TypeVar("R")


def _on_its_device(plain: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """Return an operator that runs the version for its first tensor's device."""
    on_cpu: Callable[Concatenate[Tensor, P], R] = getattr(native_attention, plain.__name__, plain)

    @functools.wraps(plain)
    def operator(first: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if first.device.type == "npu":
            fused = getattr(importlib.import_module("helpers.ops.npu_ops"), plain.__name__)
            result: R = fused(first, *args, **kwargs)
            return result
        return (on_cpu if first.device.type == "cpu" else plain)(first, *args, **kwargs)

    return operator


add_rms_norm = _on_its_device(torch_ops.add_rms_norm)
linear = _on_its_device(torch_ops.linear)
rms_norm = _on_its_device(torch_ops.rms_norm)
rotary = _on_its_device(torch_ops.rotary)
swiglu = _on_its_device(torch_ops.swiglu)
check_heads = _on_its_device(torch_attention.check_heads)
attention = _on_its_device(torch_attention.attention)
attention_lse = _on_its_device(torch_attention.attention_lse)
attention_pages = _on_its_device(torch_attention.attention_pages)
attention_rows = _on_its_device(torch_attention.attention_rows)
check_pages = _on_its_device(torch_attention.check_pages)
write_kv_pages = _on_its_device(torch_attention.write_kv_pages)
write_kv_rows = _on_its_device(torch_attention.write_kv_rows)
materialised_attention = torch_attention.materialised_attention  # one version for all devices
