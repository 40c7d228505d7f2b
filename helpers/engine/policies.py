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
    """Admit requests in order of arrival; the running request that arrived last is preempted first.

    A preempted request comes before the requests that have never run.
    """


class Priority(Policy):
    """Admit requests by `Request.priority`, smaller first.

    With `preemptive`, a more urgent waiting request preempts the least urgent running request. Without
    ageing, less urgent requests starve under a stream of urgent requests. With ageing, the bound of `Policy`
    holds, for preemptions too. Two requests always compare alike, so two requests never preempt each other in
    turn.
    """

    def __init__(self, ageing: float | None = None, preemptive: bool = False):
        """Set `ageing`, the seconds of waiting that outweigh one step of priority; None for no ageing."""
        super().__init__(ageing)
        self.preemptive = preemptive

    def rank(self, state: RequestState) -> float:
        """Return the priority that the client asked for."""
        return state.request.priority

    def displaced(self, running: Sequence[RequestState], now: float) -> RequestState | None:
        """Return the least urgent running request if the first waiting request is more urgent, else None."""
        if not self.preemptive:
            return None
        last = self.victim(running, now)
        return last if self.key(self.first(now)) < self.key(last) else None

    def steady(self, running: Sequence[RequestState]) -> float:
        """Return infinity or 0: two requests always compare alike."""
        return math.inf if self.displaced(running, 0.0) is None else 0


def capped_length(request: Request, prompt_tokens_per_pass: int = 512) -> float:
    """Return the passes that a request takes at most, alone.

    A server that cannot know where the answer ends knows no more than this bound.
    """
    text = len(request.prompt_ids) + len(request.answered)
    return math.ceil(text / prompt_tokens_per_pass) + request.max_tokens - len(request.answered) - 1


class ShortestJobFirst(Policy):
    """Admit the shortest request first, by its known, predicted or largest possible length.

    Shortest job first has the least mean wait when lengths are known (Smith 1956,
    doi:10.1002/nav.3800030106). Long jobs starve under a stream of short jobs, unless the jobs age.
    """

    def __init__(self, length: Length = capped_length, ageing: float | None = None):
        """Set `length`, which returns a request's length in passes, and `ageing`.

        `length` is called once for each request, until the request is done. `ageing` is in seconds of waiting
        that outweigh one pass; None for no ageing.
        """
        super().__init__(ageing)
        self._length = length
        self._known: dict[Hashable, float] = {}

    def rank(self, state: RequestState) -> float:
        """Return the request's length, as `length` gave it when the request came."""
        if state.name not in self._known:
            self._known[state.name] = self._length(state.request)
        return self._known[state.name]

    def leave(self, state: RequestState) -> None:
        """Forget the request's length."""
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
"""Policies by name: each value makes a new policy with default arguments."""


def named_policy(name: str) -> Policy:
    """Return a new policy of that name. Raises ValueError, with the known names, for an unknown name."""
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; known are {', '.join(POLICIES)}")
    return POLICIES[name]()
