"""Operators as their formulas read, one torch call for each sign: what fusion starts from.

Each function takes and returns what the function of the same name in `helpers.ops` does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return `(rms_norm(x + residual), x + residual)` in seven operators; in 16 bits, two more convert."""
    total = x + residual
    wide = total.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return normed.to(total.dtype) * weight, total


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `x [T, heads, D]` rotated, in five operators."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def rotary_apart(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries and keys rotated, each in operators of its own: ten."""
    return rotary(q, cos, sin), rotary(k, cos, sin)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return `silu(gate) * up`, with the sigmoid as an operator of its own: three."""
    return gate * torch.sigmoid(gate) * up


def swiglu_of_both(gate_up: Tensor) -> Tensor:
    """Return `swiglu` of the two halves of one tensor, as `helpers.ops.swiglu` is called."""
    gate, up = gate_up.chunk(2, dim=-1)
    return swiglu(gate, up)


def products(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Return `x @ weight.T` for each weight `[out, in]`: a product each, and each reads `x` anew."""
    return tuple(F.linear(x, weight) for weight in weights)


def rotary_and_write(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor
) -> Tensor:
    """Return rotated queries; rotate keys too, and write keys and values `[T, KV, D]` into their slots."""
    turned, keys = rotary_apart(q, k, cos, sin)
    for cache, new in ((k_cache, keys), (v_cache, v)):
        cache.index_copy_(0, slots, new)
    return turned
