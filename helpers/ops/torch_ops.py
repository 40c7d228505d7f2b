"""The operators in plain torch, for every device: the meaning that fused versions must reproduce.

`T` is the number of tokens of all sequences, packed one after the other (no padding).
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x [T, in] @ weight.T + bias`, `[T, out]`, in x's dtype; `weight [out, in]` may be packed."""
    if weight.is_mkldnn:
        if x.dtype == weight.dtype:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
            return product
        wide_bias = None if bias is None else bias.to(weight.dtype)
        return linear(x.to(weight.dtype), weight, wide_bias).to(x.dtype)
    return F.linear(x, weight, bias)


def pack_weight(weight: Tensor) -> Tensor:
    """Return the weight `[out, in]` packed for this processor, or the same weight where packing is not known.

    On a CPU `F.linear` rearranges a weight in every call, or runs a slow kernel. oneDNN (Intel's and AMD's
    CPUs) packs the weight once: a small batch is then two to three times as fast in fp32 and in bf16. A
    processor without instructions for a 16-bit dtype multiplies several times faster in fp32. There the
    packed weight is fp32, of twice the size, and a product is rounded to 16 bits once, at its end. A packed
    weight serves `linear` only.
    """
    dtype = torch.float32 if weight.itemsize == 2 and not can_pack(weight.dtype) else weight.dtype
    if weight.device.type != "cpu" or not can_pack(dtype):
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), None)
    return packed


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Return whether this torch has oneDNN's linear for the dtype, and this processor the instructions."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return `x / rms(x) * weight` over the last dimension, in x's dtype.

    The mean is taken in fp32. Source: arXiv:1910.07467.
    """
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return `(rms_norm(x + residual), x + residual)`: the pair that every block of a decoder needs at once.

    `residual` is spent: its memory may hold the sum afterwards, as here. The caller continues with the
    returned pair.
    """
    total = residual.add_(x)
    return rms_norm(total, weight, eps), total


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `x [T, heads, D]` rotated by the angles of the tokens' positions (arXiv:2104.09864).

    `cos`, `sin` are `[T, 1, D]`, whose two halves are equal.
    """
    first, second = x.chunk(2, dim=-1)
    sin_first, sin_second = sin.chunk(2, dim=-1)
    turned = x * cos
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sin_first, value=-1)
    turned_second.addcmul_(first, sin_second)
    return turned


def swiglu(gate_up: Tensor) -> Tensor:
    """Return `silu(first half) * second half` of the last dimension (arXiv:2002.05202)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def likeliest(logits: Tensor) -> tuple[list[int], list[float]]:
    """Return `(indices, values)` of the largest number in each row of `logits [B, vocab]`, as lists.

    Of equal numbers the first is returned; in a row with NaN, a NaN. On a CPU numpy does the search, because
    `Tensor.argmax` over a row takes ten times as long there.
    """
    if logits.device.type == "cpu":
        rows = logits.detach().float().numpy()
        best = rows.argmax(axis=-1)
        return best.tolist(), rows[np.arange(len(rows)), best].tolist()
    values, indices = logits.max(dim=-1)
    return indices.tolist(), values.tolist()
