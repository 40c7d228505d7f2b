"""What a run of a batcher amounts to, from its own log: passes, tokens, wasted tokens, and waiting."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Protocol

from helpers.engine.request import RequestState
from helpers.engine.step import Step


class Run(Protocol):
    """Describe a batcher that has worked: `ContinuousBatcher`, `StaticBatcher`."""

    @property
    def steps(self) -> Sequence[Step]:
        """Return the batcher's passes."""

    @property
    def finished(self) -> Mapping[Hashable, RequestState]:
        """Return the batcher's finished requests."""


@dataclass(frozen=True)
class Served:
    """Sum up a run. Counts are exact; times are in seconds of the batcher's clock."""

    passes: int
    computed: int
    """Tokens that went through the model."""
    needed: int
    """Computed tokens that were needed: a token of a prompt or an answer once at most, the last of an answer
    never."""
    answered: int
    """New tokens."""
    seconds: float
    """From the first arrival to the end of the last pass."""
    ttft: tuple[float, ...]
    """Each request's time to its first token, in order of arrival."""
    tpot: tuple[float, ...]
    """Each request's mean time between tokens, for requests with two tokens or more."""
    largest_gap: float
    """The longest time between two tokens of a request; 0 when no request has two tokens."""

    @classmethod
    def of(cls, run: Run) -> Served:
        """Return the sums of a run whose requests are all finished.

        Raises ValueError when no request was served.
        """
        states = sorted((s for s in run.finished.values() if s.token_times), key=lambda s: s.arrived)
        if not states or not run.steps:
            raise ValueError("nothing was served yet; run the batcher first")
        answers = [state for state in states if len(state.token_times) > 1]
        return cls(
            passes=len(run.steps),
            computed=sum(part.num_tokens for step in run.steps for part in step.parts),
            needed=sum(min(state.tokens_computed, state.num_tokens - 1) for state in states),
            answered=sum(len(state.token_times) for state in states),
            seconds=run.steps[-1].end - states[0].arrived,
            ttft=tuple(state.ttft for state in states),
            tpot=tuple(state.tpot for state in answers),
            largest_gap=max(
                (b - a for state in answers for a, b in pairwise(state.token_times)), default=0.0
            ),
        )

    @property
    def wasted(self) -> float:
        """Return the share of the computed tokens that is wasted: padding, or computed a second time."""
        return 1 - self.needed / self.computed

    @property
    def throughput(self) -> float:
        """Return new tokens per second."""
        return self.answered / self.seconds

    @property
    def mean_ttft(self) -> float:
        """Return the mean time to the first token in seconds."""
        return fmean(self.ttft)

    @property
    def mean_tpot(self) -> float:
        """Return the mean time between tokens, each request counted once; 0 if no request has two tokens."""
        return fmean(self.tpot) if self.tpot else 0.0
