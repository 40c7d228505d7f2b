"""Operators that reduce, order or accumulate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()
op, result, results = OPERATORS.op, OPERATORS.result, OPERATORS.results


def _all_or(a: Tensor, dims: Sequence[int] | None) -> list[int]:
    """Return the dimensions to reduce: all of them when none is named."""
    return list(dims) if dims else list(range(a.dim()))


# In these the output's dtype is also the one to accumulate in.
op("ReduceSum", "TAbIT")(
    lambda a, dims, keep, _, out: store(out, torch.sum(a, dims or None, keep, dtype=out.dtype))
)
op("ReduceNansum", "TAbIT")(
    lambda a, dims, keep, _, out: store(out, torch.nansum(a, dims or None, keep, dtype=out.dtype))
)
op("Mean", "TAbIT")(
    lambda a, dims, keep, _, out: store(out, torch.mean(a, _all_or(a, dims), keep, dtype=out.dtype))
)
op("Prod", "TIT")(lambda a, _, out: store(out, torch.prod(a, dtype=out.dtype)))
op("ProdDim", "TibIT")(lambda a, dim, keep, _, out: store(out, torch.prod(a, dim, keep, dtype=out.dtype)))
op("Cumsum", "TiIT")(lambda a, dim, _, out: store(out, torch.cumsum(a, dim, dtype=out.dtype)))
op("Cumprod", "TSIT")(lambda a, dim, _, out: store(out, torch.cumprod(a, dim, dtype=out.dtype)))


@op("LinalgVectorNorm", "TSAbIT")
def _vector_norm(a: Tensor, p: float, dims: Sequence[int], keep: bool, _: int, out: Tensor) -> None:
    """Return the p-norm over some dimensions."""
    store(out, torch.linalg.vector_norm(a, p, _all_or(a, dims), keep, dtype=out.dtype))


result("Amax", "TAbT", torch.amax)
result("Amin", "TAbT", torch.amin)
result("Max", "TT", torch.max)
result("Min", "TT", torch.min)
result(
    "All",
    "TAbT",
    lambda a, dims, keep: torch.all(a, tuple(_all_or(a, dims)), keep) if a.dim() else torch.all(a),
)
result(
    "Any",
    "TAbT",
    lambda a, dims, keep: torch.any(a, tuple(_all_or(a, dims)), keep) if a.dim() else torch.any(a),
)
result("ArgMax", "TibT", torch.argmax)
result("ArgMin", "TibT", torch.argmin)
result("LogSumExp", "TAbT", lambda a, dims, keep: torch.logsumexp(a, _all_or(a, dims), keep))
result("Norm", "TSAbT", lambda a, p, dims, keep: torch.linalg.vector_norm(a, p, _all_or(a, dims), keep))
result(
    "VarCorrection",
    "TAibT",
    lambda a, dims, by, keep: torch.var(a, _all_or(a, dims), correction=by, keepdim=keep),
)
result("Std", "TAibT", lambda a, dims, by, keep: torch.std(a, _all_or(a, dims), correction=by, keepdim=keep))
result("Median", "TT", torch.median)
result("Trace", "TT", torch.trace)

results("MaxDim", "TibTT", 2, torch.max)
results("MinDim", "TibTT", 2, torch.min)
results("MedianDim", "TibTT", 2, torch.median)
results("Kthvalue", "TiibTT", 2, torch.kthvalue)
results("Cummax", "TiTT", 2, torch.cummax)
results("Cummin", "TiTT", 2, torch.cummin)
results(
    "Sort", "TbibTT", 2, lambda a, stable, dim, down: torch.sort(a, dim=dim, descending=down, stable=True)
)
results(
    "TopkV2", "TiibbbTT", 2, lambda a, k, dim, largest, ordered, _: torch.topk(a, k, dim, largest, ordered)
)
results("Aminmax", "TAbTT", 2, lambda a, dims, keep: (torch.amin(a, dims, keep), torch.amax(a, dims, keep)))


def _var_mean(a: Tensor, dims: Sequence[int], correction: int, keep: bool) -> tuple[Tensor, Tensor]:
    """Return variance and mean over some dimensions."""
    return torch.var_mean(a, _all_or(a, dims), correction=correction, keepdim=keep)


def _std_mean(a: Tensor, dims: Sequence[int], correction: int, keep: bool) -> tuple[Tensor, Tensor]:
    """Return standard deviation and mean over some dimensions."""
    return torch.std_mean(a, _all_or(a, dims), correction=correction, keepdim=keep)


results("VarMean", "TAibTT", 2, _var_mean)
results("StdMeanCorrection", "TAibTT", 2, _std_mean)


def _search_sorted(
    ordered: Tensor, values: Tensor, int32: bool, right: bool, sorter: Tensor | None
) -> Tensor:
    """Return torch.searchsorted with its options by position."""
    return torch.searchsorted(ordered, values, out_int32=int32, right=right, sorter=sorter)


result("SearchSorted", "TTbbTT", _search_sorted)
result("Bincount", "TTiT", torch.bincount)
result("Histc", "TiSST", lambda a, bins, low, high: torch.histc(a.float(), bins, low, high))
