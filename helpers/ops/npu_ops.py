"""The operators on an Ascend NPU: torch_npu's kernels under the plain versions' names and signatures.

This module is imported only where a tensor is on an NPU. Contracts are those of torch_npu's operator
documents (op-plugin, `docs/zh/custom_APIs/torch_npu`). Where an older torch_npu lacks an operator, the
documented older form is called instead.
"""

from __future__ import annotations

import torch
import torch_npu
from torch import Tensor
from torch.nn import functional as F

from helpers.ops.npu_attention import (
    attention,
    attention_lse,
    attention_pages,
    attention_rows,
    check_heads,
    check_pages,
)

__all__ = [
    "add_rms_norm",
    "attention",
    "attention_lse",
    "attention_pages",
    "attention_rows",
    "check_heads",
    "check_pages",
    "linear",
    "rms_norm",
    "rotary",
    "swiglu",
    "write_kv_pages",
    "write_kv_rows",
]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x [T, in] @ weight.T + bias`, `[T, out]`, by torch's operator; torch_npu calls CANN's."""
    return F.linear(x, weight, bias)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the plain version's result, by `npu_rms_norm`, whose second result, 1 / rms, is for training."""
    normed: Tensor = torch_npu.npu_rms_norm(x, weight, epsilon=eps)[0]
    return normed


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the plain version's results, by `npu_add_rms_norm`; the sum is the operator's *third* result."""
    normed, _, total = torch_npu.npu_add_rms_norm(x, residual, weight, epsilon=eps)
    return normed, total


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return the plain version's result, by `npu_rotary_mul`, which takes a batch: here a batch of one."""
    turned: Tensor = torch_npu.npu_rotary_mul(x.contiguous()[None], cos[None], sin[None])
    return turned[0]


def swiglu(gate_up: Tensor) -> Tensor:
    """Return the plain version's result, by `npu_swiglu`."""
    product: Tensor = torch_npu.npu_swiglu(gate_up.contiguous(), dim=-1)
    return product


def write_kv_rows(
    k_cache: Tensor, v_cache: Tensor, k: Tensor, v: Tensor, rows: Tensor, positions: Tensor
) -> None:
    """Write what the plain version writes, by `npu_scatter_nd_update_`.

    Each head of each token has the index (row, head, position).
    """
    size = k.shape[:2]
    heads = torch.arange(size[1], device=k.device)
    axes = (rows[:, None].expand(size), heads.expand(size), positions[:, None].expand(size))
    indices = torch.stack(axes, dim=-1)
    for cache, new in ((k_cache, k), (v_cache, v)):
        torch_npu.npu_scatter_nd_update_(cache, indices, new.contiguous())


def write_kv_pages(k_cache: Tensor, v_cache: Tensor, k: Tensor, v: Tensor, slots: Tensor) -> None:
    """Write what the plain version writes, by `npu_scatter_pa_kv_cache` in mode "Norm".

    A torch_npu without that operator has `npu_scatter_nd_update_`.
    """
    if hasattr(torch_npu, "npu_scatter_pa_kv_cache"):
        torch_npu.npu_scatter_pa_kv_cache(
            k.contiguous(), v.contiguous(), k_cache, v_cache, slots.int(), cache_mode="Norm"
        )
        return
    for cache, new in ((k_cache, k), (v_cache, v)):
        flat = cache.view(-1, *cache.shape[2:])
        torch_npu.npu_scatter_nd_update_(flat, slots.view(-1, 1), new.contiguous())
