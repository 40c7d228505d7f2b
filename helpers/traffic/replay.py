"""A trace played to an engine: requests come when it says, and follow others when those are done."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol

from helpers.engine.request import Request, RequestState
from helpers.traffic.clock import VirtualClock
from helpers.traffic.outcome import Outcome
from helpers.traffic.trace import Trace


class Batcher(Protocol):
    """What `replay_trace` drives: `ContinuousBatcher`, `StaticBatcher`."""

    @property
    def finished(self) -> Mapping[Hashable, RequestState]:
        """The requests that are done."""

    def add_request(self, request: Request) -> object:
        """Puts a request into the queue."""

    def process_batch(self) -> object:
        """Works for a while."""


class Next(NamedTuple):
    """Who comes next, when, and the text that it follows."""

    at: float
    place: int
    before: Sequence[int]


class Coming:
    """The requests of a trace that have yet to come."""

    def __init__(self, trace: Trace):
        """All but those that follow others; these are due when those are `done`."""
        self._trace = trace
        self._due = [Next(arrival.at, i, ()) for i, arrival in enumerate(trace) if arrival.follows is None]

    def __bool__(self) -> bool:
        return bool(self._due)

    @property
    def at(self) -> float:
        """When the next one comes; infinity when nobody does."""
        return self._due[0].at if self._due else math.inf

    def take(self) -> Next:
        """The next one, who is here now."""
        return heapq.heappop(self._due)

    def done(self, state: RequestState) -> None:
        """A request is done: those that follow it come now or later, and its text stands before theirs."""
        followers = self._trace.followers.get(state.name, ()) if isinstance(state.name, int) else ()
        for follower in followers:
            at = max(self._trace[follower].at, state.ended or 0.0)
            heapq.heappush(self._due, Next(at, follower, state.text))


def replay_trace(
    trace: Trace, batcher: Batcher, clock: VirtualClock, vocab_size: int | None = None
) -> list[Outcome]:
    """Plays a trace to a batcher that has this clock and has served nobody yet; requests are named by their places, 0 and up.

    On a `WallClock` it takes the time that the trace says, or longer if the batcher cannot follow. Arrivals are noted when they were
    due, and are let in between passes. An answer has exactly `new_tokens` tokens. Gives the outcomes of those who ask for none; they
    are not the batcher's. Who follows a request that failed does not come. Raises ValueError where caps exceed true
    lengths: a real engine cannot be told where an answer ends.
    """
    capped = [i for i, a in enumerate(trace) if a.max_tokens is not None and a.max_tokens > a.new_tokens]
    if capped:
        raise ValueError(f"arrival {capped[0]} would not end at its true length on an engine; simulate it")
    coming, nothing, here = Coming(trace), list[Outcome](), set[int]()
    while coming or here:
        if not here:
            clock.wait_until(coming.at)
        while coming.at <= clock():
            at, place, before = coming.take()
            if not trace[place].new_tokens:
                nothing.append(Outcome.of_nothing(place, trace[place]))
                continue
            with clock.back_at(at):
                batcher.add_request(trace.request(place, vocab_size, before))
            here.add(place)
        batcher.process_batch()
        for place in [place for place in here if place in batcher.finished]:
            here.remove(place)
            coming.done(batcher.finished[place])
    return nothing
