"""Load over replicas of an engine, in the simulator: which engine gets a new request."""

from __future__ import annotations

import math
from collections.abc import Sequence

from helpers.engine.routing import Router
from helpers.simulation.simulator import SimulatedEngine
from helpers.traffic.outcome import Outcome
from helpers.traffic.replay import Coming
from helpers.traffic.report import Report
from helpers.traffic.trace import Trace


def simulate_replicas(trace: Trace, engines: Sequence[SimulatedEngine], router: Router) -> list[Report]:
    """Serve a trace on engines, each request on the engine that `router` names; return a report for each.

    The engines must have served no request yet. Raises ValueError without engines and for a request that
    cannot fit.
    """
    if not engines:
        raise ValueError("expected one engine or more")
    coming, nothing = Coming(trace), list[Outcome]()
    while coming or any(engine.busy for engine in engines):
        behind = min((e for e in engines if e.busy), key=lambda e: e.clock.now, default=None)
        if behind is not None and behind.clock.now < coming.at:
            for state in behind.run_until(_limit(coming.at, behind, engines, trace), trace.followers):
                coming.done(state)
            continue
        at, place, before = arrived = coming.take()
        if coming.asks_nothing(arrived):
            nothing.append(Outcome.of_nothing(place, trace[place]))
            continue
        request = trace.request(place, before=before)
        engines[router(request, engines)].submit(request, at, trace[place].new_tokens)
    return [engine.report(() if i else nothing) for i, engine in enumerate(engines)]


def simulate(trace: Trace, engine: SimulatedEngine) -> Report:
    """Serve a trace on an engine that has served no request yet; return the report.

    Raises ValueError for a request that cannot fit.
    """
    return simulate_replicas(trace, [engine], lambda request, engines: 0)[0]


def together(reports: Sequence[Report]) -> Report:
    """Return several engines' reports as one report of what the clients saw.

    Passes and time spent in passes are sums over the engines.
    """
    outcomes = [outcome for report in reports for outcome in report.outcomes]
    return Report.summed(
        outcomes,
        sum(report.busy for report in reports),
        sum(report.passes for report in reports),
        sum(report.computed for report in reports),
        sum(report.row_seconds for report in reports),
        len(reports),
    )


def _limit(
    coming_at: float, behind: SimulatedEngine, engines: Sequence[SimulatedEngine], trace: Trace
) -> float:
    """Return the moment until which the engine that is furthest behind may work.

    Where requests follow others, this engine must not pass another engine that is still working.
    """
    others = [e.clock.now for e in engines if e.busy and e is not behind] if trace.followers else []
    return max(min(coming_at, *others, math.inf), math.nextafter(behind.clock.now, math.inf))
