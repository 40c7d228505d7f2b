"""What the tests of the emulated NPU share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

npu = torch.ops.npu


def to_npu(tree: Any) -> Any:
    """The same arguments with their tensors on the device."""
    return tree_map(lambda x: x.npu() if isinstance(x, Tensor) else x, tree)


def error_of(call: Callable[[], object]) -> str:
    """What the emulation says about a call that it refuses, from the operator's name on."""
    try:
        call()
    except RuntimeError as error:
        return str(error).partition("emulated NPU: ")[2]
    raise AssertionError("the call was accepted")


def causal_mask() -> Tensor:
    """The compressed mask of sparse modes 2 to 4, on the device."""
    return torch.ones(2048, 2048, dtype=torch.bool).triu(1).npu()


def attention(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor, sink: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention and log-sum-exp in fp64, query by query: `q [Sq, N, D]`, `k`, `v` `[Skv, KvN, D]`, `visible [Sq, Skv]`."""
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
    out, lse = (
        torch.zeros(*q.shape[:2], v.shape[2], dtype=torch.float64),
        torch.zeros(*q.shape[:2], dtype=torch.float64),
    )
    for i in range(q.shape[0]):
        seen = visible[i].nonzero().flatten().tolist()
        for h in range(heads):
            scores = [
                float(q[i, h].double() @ k[j, h // group].double()) / math.sqrt(q.shape[2]) for j in seen
            ]
            extra = [] if sink is None else [float(sink[h])]
            peak = max(scores + extra)
            lse[i, h] = peak + math.log(sum(math.exp(s - peak) for s in scores + extra))
            for j, s in zip(seen, scores, strict=True):
                out[i, h] += math.exp(s - float(lse[i, h])) * v[j, h // group].double()
    return out, lse


def bottom_right(q_len: int, kv_len: int) -> Tensor:
    """What a causal query sees when the last query is the last token."""
    return torch.tensor([[j - i <= kv_len - q_len for j in range(kv_len)] for i in range(q_len)])


def top_left(q_len: int, kv_len: int) -> Tensor:
    """What a causal query sees when the first query is the first token."""
    return torch.tensor([[j <= i for j in range(kv_len)] for i in range(q_len)])


def band(q_len: int, kv_len: int, before: int, after: int = 0) -> Tensor:
    """What a query sees of the keys from `before` before to `after` after its own, aligned at the bottom right."""
    own = [kv_len - q_len + i for i in range(q_len)]
    return torch.tensor([[at - before <= j <= at + after for j in range(kv_len)] for at in own])


def cumulative(lengths: Sequence[int]) -> list[int]:
    """Where each sequence ends."""
    return [sum(lengths[: i + 1]) for i in range(len(lengths))]


def assert_rounded(got: Tensor, expected: Tensor) -> None:
    """The device's half-precision result is the exact one, up to its rounding and fp32 arithmetic."""
    tolerance = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7, torch.float32: 1e-5}[got.dtype]
    torch.testing.assert_close(got.cpu().double(), expected, rtol=tolerance, atol=tolerance / 8)
