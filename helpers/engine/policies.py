"""Policies that look at requests alone, and the table of all policies by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial

from helpers.engine.cache_aware import CacheAware
from helpers.engine.fair_policies import FairShare, RoundRobin
from helpers.engine.policy import Length, Policy
from helpers.engine.request import Request, RequestState


class FirstComeFirstServed(Policy):
    """In order of arrival; a preempted request comes before those that have never run. The last one that came gives way."""


class Priority(Policy):
    """By `Request.priority`, smaller first. `preemptive`: a more urgent one takes the place of the least urgent that runs.

    Without ageing, those of little urgency starve under a stream of urgent ones. With it, the bound is `Policy`'s, and holds
    for places taken, too: any two requests compare the same way for ever, so no two push each other out in turn.
    """

    def __init__(self, ageing: float | None = None, preemptive: bool = False):
        """`ageing` in seconds of waiting that outweigh one step of priority."""
        super().__init__(ageing)
        self.preemptive = preemptive

    def rank(self, state: RequestState) -> float:
        """The client's word."""
        return state.request.priority

    def displaced(self, running: Sequence[RequestState], now: float) -> RequestState | None:
        """The least urgent of the running, if the first who waits is more urgent."""
        if not self.preemptive:
            return None
        last = self.victim(running, now)
        return last if self.key(self.first(now)) < self.key(last) else None

    def steady(self, running: Sequence[RequestState]) -> float:
        """For ever, or not at all: two requests always compare alike."""
        return math.inf if self.displaced(running, 0.0) is None else 0


def capped_length(request: Request, prompt_tokens_per_pass: int = 512) -> float:
    """Passes that a request takes at most, alone: what a server knows when nobody tells it where the answer ends."""
    return math.ceil(len(request.prompt_ids) / prompt_tokens_per_pass) + request.max_tokens - 1


class ShortestJobFirst(Policy):
    """By the length that a job is thought to have: known, predicted, or capped by what the client allows.

    Shortest job first has the least mean wait when lengths are known (Smith 1956, doi:10.1002/nav.3800030106). Long jobs starve
    under a stream of short ones, unless they age: `ageing` is in seconds of waiting that outweigh one pass.
    """

    def __init__(self, length: Length = capped_length, ageing: float | None = None):
        """`length` gives a request's length in passes; it is asked once for each time that the request joins the queue."""
        super().__init__(ageing)
        self._length = length
        self._known: dict[Hashable, float] = {}

    def rank(self, state: RequestState) -> float:
        """The length of the job as it was thought to be when it came."""
        if state.name not in self._known:
            self._known[state.name] = self._length(state.request)
        return self._known[state.name]

    def leave(self, state: RequestState) -> None:
        """Forgets its length."""
        self._known.pop(state.name, None)


POLICIES: dict[str, Callable[[], Policy]] = {
    "fcfs": FirstComeFirstServed,
    "priority": Priority,
    "preemptive_priority": partial(Priority, preemptive=True),
    "sjf": ShortestJobFirst,
    "round_robin": RoundRobin,
    "fair_share": FairShare,
    "cache_aware": CacheAware,
}
"""Policies by name, each as it is without arguments."""


def named_policy(name: str) -> Policy:
    """A new policy of that name. Raises ValueError with the known names for another."""
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; known are {', '.join(POLICIES)}")
    return POLICIES[name]()
