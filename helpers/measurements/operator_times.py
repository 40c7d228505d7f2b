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

# What the operators that a model calls are there for. Names differ with device and kernel, kinds do not.
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
    """Calls and seconds of one pass by kind of operator. It shows itself as a table."""

    calls: dict[str, int]
    """How often a pass calls operators of that kind."""
    seconds: dict[str, float]
    """Time inside them, for one pass."""
    wall: float
    """Time of one pass by the clock, under the profiler."""

    @property
    def outside(self) -> float:
        """Seconds in which no operator ran: Python, and the profiler itself."""
        return max(0.0, self.wall - sum(self.seconds.values()))

    def table(self) -> Table:
        """One row for each kind, with its share of the pass."""
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
        """The table, for a notebook."""
        return self.table()._repr_html_()


def profile_operators(
    step: Callable[[], object], device: torch.device, repeats: int = 5
) -> OperatorBreakdown:
    """The breakdown of `step`, the mean of `repeats` runs (one on the emulated NPU) after one that does not count.

    An operator that calls others counts with them, once: what Python called is what is listed. Raises ValueError for no
    run at all.
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
    """The kind that an operator's name, without its library, belongs to."""
    name = str(event.name).split("::")[-1]
    return next((kind for kind, names in _KINDS.items() if name in names), _REST)
