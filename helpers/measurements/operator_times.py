"""Where a pass spends its time, operator by operator, from torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from helpers.display.readings import measured
from helpers.display.tables import Table
from helpers.machine.device import repeats as repeats_on
from helpers.machine.device import synchronize

# The kinds of operators that a model calls. Names differ with device and kernel, kinds do not.
_KINDS = {
    "matrix products": ("_linear_pointwise", "linear", "addmm", "mm", "matmul"),
    "attention": (
        "scaled_dot_product_attention",
        "npu_fused_infer_attention_score_v2",
        "npu_fused_infer_attention_score",
        "npu_fusion_attention",
    ),
    "norms": ("rms_norm", "npu_rms_norm", "npu_add_rms_norm"),
    "writing keys and values": (
        "index_put_",
        "index_copy_",
        "npu_scatter_nd_update_",
        "npu_scatter_pa_kv_cache",
    ),
}
_REST = "everything else"


@dataclass(frozen=True)
class OperatorBreakdown:
    """Calls and seconds of one pass by kind of operator, shown as a table."""

    calls: dict[str, int]
    """Number of calls of operators of each kind in one pass."""
    seconds: dict[str, float]
    """Seconds inside the operators of each kind, in one pass."""
    wall: float
    """Seconds of one pass by the clock, under the profiler."""

    @property
    def outside(self) -> float:
        """Return the seconds in which no operator ran: those of Python and of the profiler."""
        return max(0.0, self.wall - sum(self.seconds.values()))

    def table(self) -> Table:
        """Return one row for each kind, with the kind's share of the pass."""
        rows = [
            (kind, f"{self.calls[kind]}", measured(time), measured(100 * time / self.wall, "%"))
            for kind, time in self.seconds.items()
        ]
        rows.append(
            ("between operators", "", measured(self.outside), measured(100 * self.outside / self.wall, "%"))
        )
        return Table(("operators", "calls", "time", "share"), rows)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        """Return the table as HTML, for a notebook."""
        return self.table()._repr_html_()


def profile_operators(
    step: Callable[[], object], device: torch.device, repeats: int = 5
) -> OperatorBreakdown:
    """Return the breakdown of `step`: the mean of `repeats` runs, after one that does not count.

    On the emulated NPU there is one run. Only operators that Python calls are counted; an operator's seconds
    include those of the operators it calls itself. Raises ValueError when `repeats` is under 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {repeats}")
    repeats = repeats_on(device, repeats)
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            with torch.profiler.record_function("one pass"):
                step()
                synchronize(device)
    calls, micros = dict.fromkeys([*_KINDS, _REST], 0), dict.fromkeys([*_KINDS, _REST], 0.0)
    passes = [event for event in profiler.events() if event.name == "one pass"]
    for event in (child for one in passes for child in one.cpu_children):
        kind = _kind(event)
        calls[kind] += 1
        micros[kind] += event.cpu_time_total
    wall = sum(event.cpu_time_total for event in passes)
    return OperatorBreakdown(
        {kind: count // repeats for kind, count in calls.items()},
        {kind: time / repeats / 1e6 for kind, time in micros.items()},
        wall / repeats / 1e6,
    )


def _kind(event: Any) -> str:
    """Return the kind of an operator, by its name without the library's."""
    name = str(event.name).split("::")[-1]
    return next((kind for kind, names in _KINDS.items() if name in names), _REST)
