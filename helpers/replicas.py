"""Load over replicas of an engine, in the simulator: who gets the request that comes now."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from helpers.outcome import Outcome
from helpers.replay import Coming
from helpers.report import Report
from helpers.request import Request
from helpers.simulator import SimulatedEngine
from helpers.trace import Trace

Router = Callable[[Request, Sequence[SimulatedEngine]], int]
"""The place of the engine that a request goes to."""


class RoundRobinRouter:
    """Each engine in turn. It fails where heavy requests come in step with the turns, and knows no cache."""

    def __init__(self) -> None:
        self._turn = -1

    def __call__(self, request: Request, engines: Sequence[SimulatedEngine]) -> int:
        """The next one."""
        self._turn = (self._turn + 1) % len(engines)
        return self._turn


def least_requests(request: Request, engines: Sequence[SimulatedEngine]) -> int:
    """The engine with the fewest requests, of equals the first. It fails where requests weigh very differently."""
    return min(range(len(engines)), key=lambda i: engines[i].num_requests)


def least_tokens(request: Request, engines: Sequence[SimulatedEngine]) -> int:
    """The engine with the fewest tokens asked for. It fails where caps say little about lengths, and knows no cache."""
    return min(range(len(engines)), key=lambda i: engines[i].tokens_asked)


class PrefixRouter:
    """The engine with the best score: the cached share of the prompt, less `balance` times its load above the mean, by the mean.

    The load is the tokens asked for. A score of this form was the best simple one in production-stack's discussion 1035. With
    `balance=0` it is cache affinity alone, which fails where one beginning is popular: its engine drowns, the others sleep.
    """

    def __init__(self, balance: float = 1.0):
        """Raises ValueError for a balance below 0."""
        if not balance >= 0:
            raise ValueError(f"the balance must be 0 or more, got {balance}")
        self.balance = balance

    def __call__(self, request: Request, engines: Sequence[SimulatedEngine]) -> int:
        """The best one, of equals the one with the least load, then the first."""
        loads = [engine.tokens_asked for engine in engines]
        mean = sum(loads) / len(loads)
        pools = [engine.pages.pool for engine in engines]
        shares = [
            pool.cached_tokens(request.prompt_ids, request.salt) / len(request.prompt_ids) for pool in pools
        ]
        scores = [
            share - self.balance * (load - mean) / max(1.0, mean)
            for share, load in zip(shares, loads, strict=True)
        ]
        return max(range(len(engines)), key=lambda i: (scores[i], -loads[i], -i))


def simulate_replicas(trace: Trace, engines: Sequence[SimulatedEngine], router: Router) -> list[Report]:
    """Serves a trace on engines that have served nobody yet, each request on the one that `router` names; a report for each.

    Raises ValueError without engines and for a request that cannot fit.
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
        at, place, before = coming.take()
        if not trace[place].new_tokens:
            nothing.append(Outcome.of_nothing(place, trace[place]))
            continue
        request = trace.request(place, before=before)
        engines[router(request, engines)].submit(request, at, trace[place].new_tokens)
    return [engine.report(() if i else nothing) for i, engine in enumerate(engines)]


def simulate(trace: Trace, engine: SimulatedEngine) -> Report:
    """Serves a trace on an engine that has served nobody yet; gives the report. Raises ValueError for a request that cannot fit."""
    return simulate_replicas(trace, [engine], lambda request, engines: 0)[0]


def together(reports: Sequence[Report]) -> Report:
    """Several engines' reports as one: what the clients saw; passes and time at work are sums over the engines."""
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
    """Until when the engine that is most behind may work: where requests follow others, not past any engine at work."""
    others = [e.clock.now for e in engines if e.busy and e is not behind] if trace.followers else []
    return max(min(coming_at, *others, math.inf), math.nextafter(behind.clock.now, math.inf))
