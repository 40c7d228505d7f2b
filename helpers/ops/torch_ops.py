"""The operators in plain torch, for every device: the meaning that fused versions must reproduce.

Shapes: `T` tokens of all sequences packed one after the other (no padding), `H` query heads, `KV` key/value
heads with `H % KV == 0`, `D` head dimension.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x [T, in] @ weight.T + bias` -> `[T, out]`; `weight [out, in]` may be packed (`pack_weight`)."""
    if weight.is_mkldnn:
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return packed
    return F.linear(x, weight, bias)


def pack_weight(weight: Tensor) -> Tensor:
    """The weight `[out, in]` in the blocks that this processor's matrix kernels read, or itself where there is no such layout.

    `F.linear` lays a CPU's weights out anew in every call, or takes a slow kernel. Packed once by oneDNN (Intel's and
    AMD's CPUs), a small batch is two to three times as fast in fp32 and in bf16. A packed weight serves `linear` only.
    """
    if weight.device.type != "cpu" or not _can_pack(weight.dtype):
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


@functools.cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's linear for the type, and this processor its instructions."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / rms(x) * weight` over the last dimension, in x's dtype; the mean is taken in fp32 (arXiv:1910.07467)."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`(rms_norm(x + residual), x + residual)`: the pair that every block of a decoder needs at once.

    `residual` is spent: its memory may hold the sum afterwards (here it does), so go on with what is returned.
    """
    total = residual.add_(x)
    return rms_norm(total, weight, eps), total


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x [T, heads, D]` turned by its position's angles; `cos`, `sin` are `[T, 1, D]`, both halves alike (arXiv:2104.09864)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(first half) * second half` of the last dimension (arXiv:2002.05202)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def attention(
    q: Tensor, k: Tensor, v: Tensor, q_start: Sequence[int], kv_start: Sequence[int], scale: float
) -> Tensor:
    """Causal attention of packed ragged sequences: `q [T, H, D]`, `k`, `v` `[Tk, KV, D]` -> `[T, H, D]`.

    Sequence `i` owns the queries `q_start[i]:q_start[i + 1]` and the keys `kv_start[i]:kv_start[i + 1]`; its last
    query sees its last key (the mask is aligned at the bottom right). K and V are never repeated per query head,
    scores are never stored. Sequences of one length are computed in one call.
    """
    lengths = {
        (b - a, d - c) for a, b, c, d in zip(q_start, q_start[1:], kv_start, kv_start[1:], strict=False)
    }
    if len(lengths) == 1:
        return _attend_equal(q, k, v, len(q_start) - 1, scale)
    out = torch.empty_like(q)
    for i in range(len(q_start) - 1):
        rows, cols = slice(q_start[i], q_start[i + 1]), slice(kv_start[i], kv_start[i + 1])
        out[rows] = _attend_equal(q[rows], k[cols], v[cols], 1, scale)
    return out


def _attend_equal(q: Tensor, k: Tensor, v: Tensor, batch: int, scale: float) -> Tensor:
    """`attention` for `batch` sequences of equal lengths."""
    q_len, kv_len = q.shape[0] // batch, k.shape[0] // batch
    q4, k4, v4 = (t.view(batch, -1, *t.shape[1:]).transpose(1, 2) for t in (q, k, v))
    mask = None if q_len in (1, kv_len) else visible(q_len, kv_len, q.device)
    out = F.scaled_dot_product_attention(
        q4, k4, v4, attn_mask=mask, is_causal=1 < q_len == kv_len, scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2).reshape(q.shape)


def materialised_attention(
    q: Tensor, k: Tensor, v: Tensor, q_start: Sequence[int], kv_start: Sequence[int], scale: float
) -> Tensor:
    """`attention` as the formula reads, every score in memory at once: the reference, and chapter 1's bad example.

    Scores are fp32 `[H, q_len, kv_len]` for each sequence; K and V are repeated for each query head.
    """
    out = torch.empty_like(q)
    for i in range(len(q_start) - 1):
        rows, cols = slice(q_start[i], q_start[i + 1]), slice(kv_start[i], kv_start[i + 1])
        out[rows] = _materialise(q[rows], k[cols], v[cols], scale)
    return out


def _materialise(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """`materialised_attention` of one sequence."""
    keys, values = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, keys).float() * scale
    scores.masked_fill_(~visible(q.shape[0], k.shape[0], q.device), float("-inf"))
    return torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1).to(q.dtype), values)


def visible(q_len: int, kv_len: int, device: torch.device) -> Tensor:
    """Bool `[q_len, kv_len]`, True where a query may look: the last query sees the last key, each earlier one a key less."""
    return torch.ones(q_len, kv_len, dtype=torch.bool, device=device).tril(kv_len - q_len)
