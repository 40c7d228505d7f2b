"""The arguments of FlashAttention: checked before any work, and brought into one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Inputs:
    """Hold checked arguments: tensors are `[batch, heads, seq, dim]`.

    Either both kinds of lengths are given, or neither is.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    q_lens: tuple[int, ...] | None
    kv_lens: tuple[int, ...] | None
    statistics: torch.dtype

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_lens: Sequence[int] | None,
        kv_lens: Sequence[int] | None,
        sinks: Tensor | None,
    ) -> Inputs:
        """Return the checked arguments.

        Raises ValueError, with what was expected and what came, for arguments that do not fit.
        """
        _check_tensors(q, k, v)
        q4, k4, v4 = (t.unsqueeze(1) if t.dim() == 3 else t for t in (q, k, v))
        _check_shapes(q4, k4, v4)
        _check_sinks(sinks, q4)
        statistics = torch.float64 if q.dtype == torch.float64 else torch.float32
        if q_lens is None and kv_lens is None:
            return cls(q4, k4, v4, None, None, statistics)
        lens = _lengths("q_lens", q_lens, q4), _lengths("kv_lens", kv_lens, k4)
        return cls(q4, k4, v4, *lens, statistics)


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise ValueError unless the three are 3- or 4-dimensional tensors of one known dtype, on one device."""
    for name, tensor in zip("QKV", (q, k, v), strict=True):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is a tensor, got {type(tensor).__name__}")
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"{name} is float16, bfloat16, float32 or float64, got {tensor.dtype}")
        if tensor.dim() not in (3, 4) or tensor.dim() != q.dim():
            shapes = "[batch, seq, dim] or [batch, heads, seq, head_dim], all three alike"
            raise ValueError(f"expected {shapes}; got {name} {tuple(tensor.shape)} with Q {tuple(q.shape)}")
        if (tensor.dtype, tensor.device) != (q.dtype, q.device):
            where = f"{tensor.dtype} on {tensor.device}, Q {q.dtype} on {q.device}"
            raise ValueError(f"Q, K and V share dtype and device; {name} is {where}")


def _check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise ValueError unless the four-dimensional tensors agree in batch, heads, lengths and head sizes."""
    shapes = f"got Q {tuple(q.shape)}, K {tuple(k.shape)}, V {tuple(v.shape)}"
    if not len(q) == len(k) == len(v):
        raise ValueError(f"Q, K and V have one batch size; {shapes}")
    if k.shape[1:3] != v.shape[1:3]:
        raise ValueError(f"K and V have as many heads and as many tokens; {shapes}")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"Q and K have one head size; {shapes}")
    if not q.shape[-1] or not v.shape[-1]:
        raise ValueError(f"a head has at least one element; {shapes}")
    if not k.shape[1] or not q.shape[1] or q.shape[1] % k.shape[1]:
        raise ValueError(f"Q's heads are a multiple of K's; {shapes}")


def _check_sinks(sinks: Tensor | None, q: Tensor) -> None:
    """Raise ValueError unless there is one floating-point sink for each query head, on Q's device."""
    if sinks is None:
        return
    if not isinstance(sinks, Tensor) or not sinks.is_floating_point() or sinks.shape != q.shape[1:2]:
        came = f"{tuple(sinks.shape)} {sinks.dtype}" if isinstance(sinks, Tensor) else type(sinks).__name__
        raise ValueError(f"sinks are floats of shape ({q.shape[1]},), one for each query head; got {came}")
    if sinks.device != q.device:
        raise ValueError(f"sinks lie on Q's device, {q.device}; got {sinks.device}")


def _lengths(name: str, lens: Sequence[int] | None, tensor: Tensor) -> tuple[int, ...]:
    """Return the sequences' lengths, or whole lengths if none are given.

    Raises ValueError for lengths that do not fit.
    """
    batch, _, longest, _ = tensor.shape
    if lens is None:
        return (longest,) * batch
    values = tuple(lens)
    if len(values) != batch:
        raise ValueError(f"{name} has one length for each of {batch} sequences, got {len(values)}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= longest:
            raise ValueError(f"{name} are whole numbers from 0 to {longest}, got {value!r}")
    return values
