"""How well requests were served: percentiles, goodput, fairness, worst wait; for a run or a simulation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from helpers.traffic.outcome import Outcome
from helpers.traffic.served import Run

Metric = Literal["ttft", "tpot", "latency", "wait", "largest_gap"]


@dataclass(frozen=True)
class Objective:
    """Set what a client counts as well served, in seconds; None: no bound."""

    ttft: float | None = None
    tpot: float | None = None
    latency: float | None = None

    def met(self, outcome: Outcome) -> bool:
        """Return whether a request came to its own end within the bounds.

        A request with too few tokens to have a time cannot break the bound on that time.
        """
        pairs = ((outcome.ttft, self.ttft), (outcome.tpot, self.tpot), (outcome.latency, self.latency))
        late = any(bound is not None and value is not None and value > bound for value, bound in pairs)
        return outcome.served and not late


@dataclass(frozen=True)
class Report:
    """Sum up a run. Cancelled and failed requests count as requests, and their waits as waits."""

    outcomes: tuple[Outcome, ...]
    """In order of arrival."""
    seconds: float
    """From the first arrival until the last request ended."""
    busy: float
    """Seconds spent in passes."""
    passes: int
    computed: int
    """Tokens that went through the model."""
    row_seconds: float
    """Requests in a pass times the seconds of the pass, summed over passes."""
    engines: int = 1
    """Number of engines over which time in passes, passes and tokens are summed."""

    @classmethod
    def of(cls, run: Run, others: Iterable[Outcome] = ()) -> Report:
        """Return the report of a batcher's log, and of `others` that never reached the batcher.

        Raises ValueError for requests that are not done.
        """
        outcomes = [*(Outcome.of(state) for state in run.finished.values()), *others]
        times = [(step.end - step.begin, len(step.parts)) for step in run.steps]
        busy = sum(seconds for seconds, _ in times)
        computed = sum(part.num_tokens for step in run.steps for part in step.parts)
        return cls.summed(outcomes, busy, len(times), computed, sum(s * rows for s, rows in times))

    @classmethod
    def summed(
        cls,
        outcomes: Iterable[Outcome],
        busy: float,
        passes: int,
        computed: int,
        row_seconds: float,
        engines: int = 1,
    ) -> Report:
        """Return the report of these outcomes, in any order."""
        ordered = tuple(sorted(outcomes, key=lambda outcome: outcome.arrived))
        end = max((outcome.ended for outcome in ordered), default=0.0)
        seconds = end - ordered[0].arrived if ordered else 0.0
        return cls(ordered, seconds, busy, passes, computed, row_seconds, engines)

    def values(self, metric: Metric) -> list[float]:
        """Return a metric's value for every request that has one, in order of arrival."""
        values = (getattr(outcome, metric) for outcome in self.outcomes)
        return [value for value in values if value is not None]

    def percentile(self, metric: Metric, percent: float) -> float:
        """Return the value that `percent` % of the requests do not exceed, interpolated; 0 without values."""
        values = self.values(metric)
        return float(np.percentile(values, percent)) if values else 0.0

    @property
    def throughput(self) -> float:
        """Return new tokens per second; 0 when no time passed."""
        answered = sum(outcome.new_tokens for outcome in self.outcomes)
        return answered / self.seconds if self.seconds else 0.0

    @property
    def utilisation(self) -> float:
        """Return the share of the time that the engine spent in passes; the mean for several engines."""
        return self.busy / self.seconds / self.engines if self.seconds else 0.0

    @property
    def mean_batch(self) -> float:
        """Return the requests in a pass, on average over the time spent in passes."""
        return self.row_seconds / self.busy if self.busy else 0.0

    @property
    def worst_wait(self) -> float:
        """Return the longest time that a request waited for its first pass."""
        return max(self.values("wait"), default=0.0)

    @property
    def preemptions(self) -> int:
        """Return how often requests were preempted."""
        return sum(outcome.preemptions for outcome in self.outcomes)

    @property
    def hit_rate(self) -> float:
        """Return the share of prompt tokens that other requests had computed, 0 to 1.

        A request that was preempted finds its own text again: that is no hit. Prompts that were never looked
        up, such as those of requests cancelled in the queue, do not count.
        """
        prompts = sum(
            outcome.prompt_tokens
            for outcome in self.outcomes
            if outcome.new_tokens or outcome.computed or outcome.cached_tokens
        )
        return sum(outcome.cached_tokens for outcome in self.outcomes) / prompts if prompts else 0.0

    def attainment(self, objective: Objective) -> float:
        """Return the share of the requests that met an objective; 1 without requests."""
        met = [objective.met(outcome) for outcome in self.outcomes]
        return sum(met) / len(met) if met else 1.0

    def goodput(self, objective: Objective) -> float:
        """Return the requests per second that met an objective (DistServe, arXiv:2401.09670)."""
        met = sum(objective.met(outcome) for outcome in self.outcomes)
        return met / self.seconds if self.seconds else 0.0

    @property
    def fairness(self) -> float:
        """Return Jain's index of what clients got, each over its fair share; 1 is fair.

        Only the time counts in which requests still came. What a client got is its new tokens until the last
        arrival. The fair shares are the max-min division of all tokens given until then; no share exceeds
        what its client asked for. A single client is treated fairly.
        """
        until = self.outcomes[-1].arrived if self.outcomes else 0.0
        got: dict[Hashable, float] = defaultdict(float)
        asked: dict[Hashable, float] = defaultdict(float)
        for outcome in self.outcomes:
            got[outcome.client] += outcome.tokens_by(until)
            asked[outcome.client] += outcome.new_tokens
        shares = max_min(asked, sum(got.values()))
        return jain([got[client] / share for client, share in shares.items() if share > 0])

    def of_priority(self, priority: int) -> Report:
        """Return the run as requests of one priority saw it; what the engine did stays the same."""
        return self._only([outcome for outcome in self.outcomes if outcome.priority == priority])

    def of_client(self, client: Hashable) -> Report:
        """Return the run as one client saw it; what the engine did stays the same."""
        return self._only([outcome for outcome in self.outcomes if outcome.client == client])

    def _only(self, outcomes: Sequence[Outcome]) -> Report:
        """Return the report with these outcomes alone."""
        return replace(self, outcomes=tuple(outcomes))


def jain(values: Sequence[float]) -> float:
    """Return Jain's fairness index, `(sum x)^2 / (n sum x^2)` (DEC-TR-301, 1984).

    The index is 1 when all values are equal, and `1/n` when only one value is above 0. Without a value above
    0 the index is 1. Raises ValueError for a negative value.
    """
    if any(not value >= 0 for value in values):
        raise ValueError(f"shares are 0 or more, got {list(values)}")
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def max_min(asked: Mapping[Hashable, float], total: float) -> dict[Hashable, float]:
    """Return the max-min fair division of `total` over clients.

    No client gets more than it asked for. To give a client more, one would have to take from a client that
    has no more.
    """
    shares: dict[Hashable, float] = {}
    left = total
    for i, client in enumerate(sorted(asked, key=lambda name: asked[name])):
        shares[client] = min(asked[client], left / (len(asked) - i))
        left -= shares[client]
    return shares
