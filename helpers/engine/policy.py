"""The contract of a scheduling policy: which request is admitted next, and which request is preempted.

Each policy keeps the queue of the waiting requests, because a policy is an order. A decision costs O(log n)
with n requests in the queue.
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
    """Keep the waiting requests in order of `key`, smallest first; this class is first come, first served.

    A strategy overrides `rank`: a smaller rank is more urgent, equal ranks go by arrival. With `ageing`, `a`
    seconds of waiting weigh as much as one rank. The order is then that of `arrived + a * rank`, which time
    does not change. Let a request of rank `p` come at `t`. No request of rank `q` that comes at
    `t + a * (p - q)` or later overtakes that request: no request starves.

    One policy serves one engine. A strategy whose order depends on more than the requests sets
    `static = False`.
    """

    static = True
    """Whether the order of any two waiting requests stays the same while both wait."""
    preemptive = False
    """Whether a waiting request may preempt a running request to take its seat."""

    def __init__(self, ageing: float | None = None):
        """Begin with an empty queue. Raises ValueError for ageing that is not above 0."""
        if ageing is not None and not ageing > 0:
            raise ValueError(f"ageing is in seconds per rank and above 0, got {ageing}")
        self.ageing = ageing
        self._heap: list[tuple[Any, int, RequestState]] = []
        self._tickets: dict[Hashable, int] = {}  # the valid heap entries; others were removed
        self._pushes = 0

    def rank(self, state: RequestState) -> float:
        """Return a request's rank, smaller is more urgent; a rank must not change while the request waits."""
        return 0

    def key(self, state: RequestState) -> tuple[Any, ...]:
        """Return what the queue is sorted by."""
        if self.ageing is None:
            return (self.rank(state), state.arrived, state.order)
        return (state.arrived + self.ageing * self.rank(state), state.order)

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[RequestState]:
        """Iterate over the waiting requests, in no particular order."""
        return (state for _, ticket, state in self._heap if self._tickets.get(state.name) == ticket)

    def attach(self, cached_tokens: CachedTokens | None) -> None:
        """Tell the policy, before any request waits, how to look up a waiting request's cached tokens.

        `cached_tokens` is None without a cache.
        """

    def push(self, state: RequestState) -> None:
        """Put a request into the queue: a new request, or a preempted one."""
        self._pushes += 1
        self._tickets[state.name] = self._pushes
        heapq.heappush(self._heap, (self.key(state), self._pushes, state))

    def first(self, now: float) -> RequestState:
        """Return the request to admit next, without a visible change; the queue must not be empty."""
        while self._tickets.get(self._heap[0][2].name) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def pop(self, state: RequestState) -> None:
        """Take the request out of the queue: it was `first`, and is admitted."""
        self.remove(state)

    def remove(self, state: RequestState) -> None:
        """Take a waiting request out of the queue, at any position."""
        del self._tickets[state.name]
        if len(self._heap) > 2 * len(self._tickets) + 8:
            self._heap = [entry for entry in self._heap if self._tickets.get(entry[2].name) == entry[1]]
            heapq.heapify(self._heap)

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """Return the request to preempt when pages run out: the least urgent one.

        `running` are the running requests in order of admission, at least one.
        """
        return max(running, key=self.key)

    def displaced(self, running: Sequence[RequestState], now: float) -> RequestState | None:
        """Return the running request to preempt for the first waiting request, or None."""
        return None

    def displace(self, state: RequestState) -> None:
        """Note that a running request, named by `displaced`, loses its seat; `push` follows."""

    def charge(self, state: RequestState, tokens: int) -> None:
        """Note that a running request computes so many tokens in the planned pass.

        A number below 0 takes such a note back.
        """

    def leave(self, state: RequestState) -> None:
        """Forget a request that is done and out of the queue."""

    def steady(self, running: Sequence[RequestState]) -> float:
        """Return for how many passes of one token each no request is `displaced`; infinity for ever.

        The same requests wait and run during these passes.
        """
        return math.inf
