"""A trace played to an engine: requests come at their times, or when an earlier request is done."""

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
    """Describe what `replay_trace` drives: `ContinuousBatcher`, `StaticBatcher`."""

    @property
    def finished(self) -> Mapping[Hashable, RequestState]:
        """Return the requests that are done."""

    def add_request(self, request: Request) -> object:
        """Put a request into the queue."""

    def process_batch(self) -> object:
        """Compute one pass, or serve one static batch."""


class Next(NamedTuple):
    """Describe the next request: its moment, its index in the trace, and the text that it follows."""

    at: float
    place: int
    before: Sequence[int]


class Coming:
    """Keep the requests of a trace that have yet to come."""

    def __init__(self, trace: Trace):
        """Queue the requests that follow no other request. Followers are queued by `done`."""
        self._trace = trace
        self._due = [Next(arrival.at, i, ()) for i, arrival in enumerate(trace) if arrival.follows is None]

    def __bool__(self) -> bool:
        return bool(self._due)

    @property
    def at(self) -> float:
        """Return when the next request comes; infinity when no request is queued."""
        return self._due[0].at if self._due else math.inf

    def take(self) -> Next:
        """Remove the next request from the queue and return it."""
        return heapq.heappop(self._due)

    def done(self, state: RequestState) -> None:
        """Note that a request is done, and queue the requests that follow it.

        A following request comes now or later; the text of the request that is done stands before its own
        text.
        """
        if isinstance(state.name, int):
            self._queue_followers(state.name, state.ended or 0.0, state.text)

    def asks_nothing(self, coming: Next, vocab_size: int | None = None) -> bool:
        """Return whether a request that comes asks for no token; then it is done at once, and its followers are queued."""
        if self._trace[coming.place].new_tokens:
            return False
        prompt = self._trace.prompt(coming.place, vocab_size, coming.before)
        self._queue_followers(coming.place, coming.at, prompt)
        return True

    def _queue_followers(self, place: int, ended: float, text: Sequence[int]) -> None:
        """Queue the requests that follow one that ended at a moment with this text."""
        for follower in self._trace.followers.get(place, ()):
            heapq.heappush(self._due, Next(max(self._trace[follower].at, ended), follower, text))


def replay_trace(
    trace: Trace, batcher: Batcher, clock: VirtualClock, vocab_size: int | None = None
) -> list[Outcome]:
    """Play a trace to a batcher; return the outcomes of requests that ask for no token.

    The batcher must run on `clock`, and must have served no request yet. Requests are named by their index in
    the trace, 0 and up. On a `WallClock` the replay takes the time that the trace says, or longer if the
    batcher cannot follow. Arrivals are noted for the moment when they were due; the requests are admitted
    between passes. An answer has exactly `new_tokens` tokens. Requests that ask for no token never reach the
    batcher. A request that follows a failed one comes, too, behind the text so far. Raises ValueError where
    `max_tokens` exceeds `new_tokens`: a real engine cannot be told where an answer ends.
    """
    capped = [i for i, a in enumerate(trace) if a.max_tokens is not None and a.max_tokens > a.new_tokens]
    if capped:
        raise ValueError(f"arrival {capped[0]} would not end at its true length on an engine; simulate it")
    coming, nothing, here = Coming(trace), list[Outcome](), set[int]()
    while coming or here:
        if not here:
            clock.wait_until(coming.at)
        while coming.at <= clock():
            at, place, before = arrived = coming.take()
            if coming.asks_nothing(arrived, vocab_size):
                nothing.append(Outcome.of_nothing(place, trace[place]))
                continue
            with clock.back_at(at):
                batcher.add_request(trace.request(place, vocab_size, before))
            here.add(place)
        if not here:
            continue
        batcher.process_batch()
        for place in [place for place in here if place in batcher.finished]:
            here.remove(place)
            coming.done(batcher.finished[place])
    return nothing
