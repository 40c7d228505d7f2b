"""Many simulations at once, on all processors."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, TypeVar

from helpers.simulation.pass_time import PassTime
from helpers.simulation.replicas import simulate
from helpers.simulation.simulator import SimulatedEngine
from helpers.traffic.report import Report
from helpers.traffic.trace import Trace

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Setting:
    """Describe one simulation: a trace, pass times, and the other arguments of `SimulatedEngine`."""

    trace: Trace
    pass_time: PassTime
    options: Mapping[str, Any] = field(default_factory=dict)


def sweep(settings: Mapping[Name, Setting], workers: int | None = 1) -> dict[Name, Report]:
    """Return the report of each setting, from simulations in one process or more.

    `workers`: with more than one, simulations run in processes of their own; None: one process for each
    processor. A process takes seconds to start, so processes pay for large sweeps only. Processes need
    settings that can be pickled: a policy made by a class or `functools.partial`, not by a lambda. In a
    script, processes need the usual guard, `if __name__ == "__main__"`. Raises ValueError for workers under
    1, and whatever a simulation raises.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    if workers == 1 or len(settings) < 2:
        return {name: _run(setting) for name, setting in settings.items()}
    context = get_context("spawn")  # after a fork, torch's thread pool does not work
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return dict(zip(settings, pool.map(_run, settings.values()), strict=True))


def _run(setting: Setting) -> Report:
    """Run one simulation; return its report."""
    return simulate(setting.trace, SimulatedEngine(setting.pass_time, **setting.options))
