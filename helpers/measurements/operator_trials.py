"""Trials of every operator of `helpers.ops` on a device, compared with the plain version on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from helpers.machine.stopwatch import Stopwatch
from helpers.measurements.low_bit_trials import cache_trials, product_trials
from helpers.measurements.trial import HEADS, LENGTHS, TOLERANCE, Trial
from helpers.ops import by_device as ops
from helpers.ops import int8_cache, low_bit, torch_attention, torch_ops
from helpers.ops.block_tables import BlockTables
from helpers.ops.int8_cache import Int8
from helpers.ops.torch_ops import pack_weight

REPEATS = 5
"""Calls that are timed, after the one that is compared."""


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended on a device: one entry of the report."""

    operator: str
    case: str
    dtype: str
    passed: bool
    max_error: float | None
    """Largest `|got - want| / (1 + |want|)` against the plain version; None when a result is no number."""
    tolerance: float
    seconds: float | None
    """Mean seconds of the calls after the first; None when a call failed."""
    problem: str | None = None
    """What was raised, or what is wrong with shapes or dtypes; None without a problem."""


def try_operators(device: torch.device) -> list[TrialResult]:
    """Return the results of all trials of all operators on the device, in fp32, fp16 and bf16."""
    return [run_trial(trial, dtype, device) for dtype in TOLERANCE for trial in trials(dtype)]


def run_trial(trial: Trial, dtype: torch.dtype, device: torch.device) -> TrialResult:
    """Return the result of one trial. An error that the operator raises is a result, too."""
    name, tolerance = str(dtype).removeprefix("torch."), trial.tolerance(dtype)
    want = _results(trial, _plain(trial.operator), _copies(trial.arguments, torch.device("cpu")))
    try:
        arguments = _copies(trial.arguments, device)
        got = [t.cpu().clone() for t in _results(trial, _fused(trial.operator), arguments)]
        with Stopwatch(device) as watch:
            for _ in range(REPEATS):
                _fused(trial.operator)(*arguments)
    except Exception as error:  # a broken kernel may raise any error; the other trials go on
        raised = f"{type(error).__name__}: {error}"
        return TrialResult(trial.operator, trial.case, name, False, None, tolerance, None, raised)
    problem = _mismatch(got, want)
    worst = None if problem else _error(got, want)
    passed = worst is not None and worst <= tolerance
    return TrialResult(
        trial.operator, trial.case, name, passed, worst, tolerance, watch.seconds / REPEATS, problem
    )


def trials(dtype: torch.dtype) -> Iterator[Trial]:
    """Yield the trials of every operator in one dtype: the sizes of two models, ragged lengths.

    The trials are the same in every run.
    """
    random = torch.Generator().manual_seed(0)

    def randn(*size: int) -> Tensor:
        return torch.randn(*size, generator=random).to(dtype)

    x, residual, weight, bias = randn(5, 96), randn(5, 96), randn(96), randn(40)
    matrix, angles = randn(40, 96) / 10, torch.randn(5, 1, 32, generator=random).repeat(1, 1, 2)
    yield Trial("rms_norm", "", (x, weight, 1e-5))
    yield Trial("add_rms_norm", "", (x, residual, weight, 1e-5))
    yield Trial("rotary", "", (randn(5, 3, 64), angles.cos().to(dtype), angles.sin().to(dtype)))
    yield Trial("swiglu", "", (x,))
    yield Trial("linear", "", (x, matrix))
    yield Trial("linear", "bias", (x, matrix, bias))
    yield Trial("pack_weight", "linear with it", (x, matrix))
    yield from product_trials(dtype, randn)
    for heads, sizes in HEADS.items():
        for lengths, (new, total) in LENGTHS.items():
            yield from _attention_trials(f"{lengths}, {heads}", new, total, sizes, randn)
            yield from cache_trials(f"{lengths}, {heads}", new, total, sizes, randn)


def _attention_trials(
    case: str, new: list[int], total: list[int], sizes: tuple[int, int, int], randn: Callable[..., Tensor]
) -> Iterator[Trial]:
    """Yield trials of attention and of writing keys and values: packed, in rows and in pages."""
    heads, kv_heads, dim = sizes
    q, k, v = randn(sum(new), heads, dim), randn(sum(total), kv_heads, dim), randn(sum(total), kv_heads, dim)
    q_start, kv_start, scale = [0, *accumulate(new)], [0, *accumulate(total)], dim**-0.5
    yield Trial("attention", case, (q, k, v, q_start, kv_start, scale))
    yield Trial("materialised_attention", case, (q, k, v, q_start, kv_start, scale))
    for causal in (True, False):
        one = (q[: new[0]], k[: total[0]], v[: total[0]], scale, causal)
        yield Trial("attention_lse", f"{case}, {'causal' if causal else 'all keys'}", one)
    rows, room = [len(new) - 1 - i for i in range(len(new))], max(total) + 8
    positions = torch.cat([torch.arange(n) for n in total])
    row_of = torch.tensor(rows).repeat_interleave(torch.tensor(total))
    filled = [randn(len(new), kv_heads, room, dim) for _ in "kv"]
    yield Trial("write_kv_rows", case, (*filled, k, v, row_of, positions), written=(0, 1))
    yield Trial("attention_rows", case, (q, *filled, rows, q_start, total, scale))
    for page_size in (16, 128):
        counts = [-(-n // page_size) for n in total]
        pages = list(reversed(range(sum(counts))))
        tables = [[pages.pop(0) for _ in range(n)] for n in counts]
        paged = [randn(sum(counts), page_size, kv_heads, dim) for _ in "kv"]
        slots = [t[i // page_size] * page_size + i % page_size for t, n in zip(tables, total, strict=True) for i in range(n)]  # fmt: skip
        label = f"{case}, pages of {page_size}"
        yield Trial("write_kv_pages", label, (*paged, k, v, torch.tensor(slots)), written=(0, 1))
        yield Trial(
            "attention_pages", label, (q, *paged, BlockTables(tables, total, page_size), q_start, scale)
        )


def _fused(operator: str) -> Callable[..., Any]:
    """Return the operator as the library calls it."""
    if operator == "pack_weight":
        return lambda x, weight: ops.linear(x, pack_weight(weight))
    function: Callable[..., Any] = getattr(ops, operator)
    return function


def _plain(operator: str) -> Callable[..., Any]:
    """Return the operator's plain version."""
    if operator == "pack_weight":
        return torch_ops.linear
    homes = (torch_ops, torch_attention, low_bit, int8_cache)
    function: Callable[..., Any] = next(getattr(home, operator) for home in homes if operator in vars(home))
    return function


def _copies(arguments: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    """Return copies of the arguments on the device: some operators overwrite their arguments."""
    return tuple(_copy(x, device) for x in arguments)


def _copy(x: Any, device: torch.device) -> Any:
    """Return a copy of one argument on the device."""
    if isinstance(x, BlockTables):
        return BlockTables(x.tables, x.kv_lens, x.page_size, device)
    if isinstance(x, Int8):
        return Int8(*(_copy(part, device) for part in x))
    return x.clone().to(device) if isinstance(x, Tensor) else x


def _results(trial: Trial, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Tensor]:
    """Return what the operator computed: the tensors that it returned, or those that it wrote."""
    returned = function(*arguments)
    return [_numbers(arguments[i]) for i in trial.written] or tree_leaves(returned)


def _numbers(written: Any) -> Tensor:
    """Return a tensor that was written; of a cache in 8 bits, the numbers behind its codes."""
    if not isinstance(written, Int8):
        tensor: Tensor = written
        return tensor
    codes, scale = written
    places = scale.transpose(1, 2) if codes.shape[:3] != scale.shape else scale
    return codes * places.unsqueeze(-1)


def _mismatch(got: list[Tensor], want: list[Tensor]) -> str | None:
    """Return how shapes and dtypes differ, in words; None where they agree."""
    shown = [[f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for t in side] for side in (got, want)]
    return f"expected {', '.join(shown[1])}, got {', '.join(shown[0])}" if shown[0] != shown[1] else None


def _error(got: list[Tensor], want: list[Tensor]) -> float | None:
    """Return the largest `|got - want| / (1 + |want|)`; None when a result is no number."""
    differences = [(g.double() - w.double()).abs() / (1 + w.double().abs()) for g, w in zip(got, want, strict=True)]  # fmt: skip
    worst = max(float(d.max()) if not d.isnan().any() else float("inf") for d in differences)
    return worst if worst < float("inf") else None
