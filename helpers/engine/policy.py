"""The contract of a scheduling policy: who is served next, who gives way.

Each policy keeps the queue of those who wait, because the order is what it knows; a decision costs O(log n) with n in the queue.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from helpers.engine.request import Request, RequestState

CachedTokens = Callable[[RequestState], int]
"""How many tokens of a waiting request's text the engine's cache holds."""
Length = Callable[[Request], float]
"""How long a job is thought to be, in passes of the engine."""


class Policy:
    """The queue in order of `key`, smallest first; as it stands here, first come, first served.

    A strategy overrides `rank`: a smaller one is more urgent, equal ranks go by arrival. With `ageing`, `a` seconds of waiting
    weigh as much as one rank: the order is that of `arrived + a * rank`, which time does not change. So a request of rank `p`
    that came at `t` is overtaken by none of rank `q` that comes at `t + a * (p - q)` or later, and nobody starves.

    One policy serves one engine. A strategy whose order depends on more than the requests says so: `static = False`.
    """

    static = True
    """Whether the order of any two who wait stays the same while they wait."""
    preemptive = False
    """Whether somebody who waits may take a running request's place."""

    def __init__(self, ageing: float | None = None):
        """Raises ValueError for ageing that is not above 0."""
        if ageing is not None and not ageing > 0:
            raise ValueError(f"ageing is in seconds per rank and above 0, got {ageing}")
        self.ageing = ageing
        self._heap: list[tuple[Any, int, RequestState]] = []
        self._tickets: dict[Hashable, int] = {}  # entries of the heap that count; others were cancelled
        self._pushes = 0

    def rank(self, state: RequestState) -> float:
        """A request's place, smaller is more urgent; it must not change while the request waits."""
        return 0

    def key(self, state: RequestState) -> tuple[Any, ...]:
        """What the queue is sorted by."""
        if self.ageing is None:
            return (self.rank(state), state.arrived, state.order)
        return (state.arrived + self.ageing * self.rank(state), state.order)

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[RequestState]:
        """Those who wait, in no particular order."""
        return (state for _, ticket, state in self._heap if self._tickets.get(state.name) == ticket)

    def attach(self, cached_tokens: CachedTokens | None) -> None:
        """Tell the policy, before any request waits, how to ask what of a waiting request is cached; None without a cache."""

    def push(self, state: RequestState) -> None:
        """A request joins the queue: a new one, or one that was preempted."""
        self._pushes += 1
        self._tickets[state.name] = self._pushes
        heapq.heappush(self._heap, (self.key(state), self._pushes, state))

    def first(self, now: float) -> RequestState:
        """Who is to be admitted next; the queue is not empty. Changes nothing that anybody could see."""
        while self._tickets.get(self._heap[0][2].name) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def pop(self, state: RequestState) -> None:
        """The request that was first has been admitted."""
        self.remove(state)

    def remove(self, state: RequestState) -> None:
        """A waiting request leaves the queue, wherever it stands."""
        del self._tickets[state.name]
        if len(self._heap) > 2 * len(self._tickets) + 8:
            self._heap = [entry for entry in self._heap if self._tickets.get(entry[2].name) == entry[1]]
            heapq.heapify(self._heap)

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """Who of the `running` (in order of admission, never empty) gives way when pages run out: the least urgent one."""
        return max(running, key=self.key)

    def displaced(self, running: Sequence[RequestState], now: float) -> RequestState | None:
        """Who of the `running` gives its place to the first of those who wait, when there is no place for it; None: nobody."""
        return None

    def displace(self, state: RequestState) -> None:
        """Note that a running request, named by `displaced`, loses its seat; `push` follows. Changes nothing here."""

    def charge(self, state: RequestState, tokens: int) -> None:
        """Note that a running request computes so many tokens in the planned pass; fewer than 0 take such a note back."""

    def leave(self, state: RequestState) -> None:
        """A request is done, and out of the queue: what the policy noted about it can go."""

    def steady(self, running: Sequence[RequestState]) -> float:
        """For how many passes of one token each nobody is `displaced`, while the same requests wait and run; infinity: for ever."""
        return math.inf
