"""Several engine loops of one process behind one router."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

from helpers.engine.request import Request
from helpers.engine.routing import Router
from helpers.replicas.relay import Relay
from helpers.replicas.replica import CachingLoop, Replica, Share
from helpers.serving.answers import Answers
from helpers.serving.errors import BadRequest, Busy, Draining


class ReplicaGroup:
    """Serve calls with several engine loops, in place of one: the server's routes see no difference.

    The router names a replica for each prompt of a call; samples of one prompt stay together. Where the named
    replica's queue is full, the least loaded replica with a place takes the request, so that a router's bound
    on imbalance holds while queues have room. When a replica dies, its answers go on at the others, and other
    answers are not touched.
    """

    def __init__(self, loops: Sequence[CachingLoop], router: Router, most_deaths: int = 3):
        """Take the loops, which belong to this group alone. `most_deaths` as in `Relay`.

        Raises ValueError without loops.
        """
        if not loops:
            raise ValueError("expected one engine loop or more")
        self.replicas = [Replica(loop) for loop in loops]
        self._router, self._most_deaths = router, most_deaths

    @property
    def alive(self) -> bool:
        """Return whether any replica takes calls."""
        return any(replica.loop.alive for replica in self.replicas)

    @property
    def capacity(self) -> int:
        """The most answers that may be on their way, at replicas that take calls."""
        return sum(replica.loop.capacity for replica in self.replicas if replica.loop.alive)

    @property
    def num_answers(self) -> int:
        """Return how many answers are waiting or being computed."""
        return sum(replica.loop.num_answers for replica in self.replicas)

    @property
    def num_requests(self) -> int:
        """Requests that are not done yet."""
        return sum(replica.num_requests for replica in self.replicas)

    @property
    def tokens_asked(self) -> int:
        """Tokens of the prompts and answers of all unfinished requests; answers count with `max_tokens`."""
        return sum(replica.tokens_asked for replica in self.replicas)

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that the cache of one replica holds, the most of all replicas."""
        return max(replica.cached_tokens(tokens, salt) for replica in self.replicas)

    def submit(self, requests: Sequence[Request], samples: int = 1, admitted: bool = False) -> Answers:
        """Begin `samples` answers to each request; return them, as `EngineLoop.submit` does.

        Raises Busy when no queue has a place, Draining when no replica takes requests, and BadRequest for
        more answers than could ever be taken.
        """
        count, capacity = len(requests) * samples, self.capacity
        if self.alive and count > capacity and not admitted:
            raise BadRequest(f"{count} answers were asked for, and {capacity} are computed at most", "n")
        answers = Answers(count, time.perf_counter(), lambda _: relay.cancel())
        relay = Relay(answers, self._begin, self._most_deaths)
        try:
            for place, request in enumerate(requests):
                relay.start(request, samples, place * samples, admitted)
        except BaseException:
            relay.cancel()
            raise
        return answers

    def drain(self, seconds: float) -> None:
        """Take no more requests; those that are not answered after `seconds` end with Draining."""
        for replica in self.replicas:
            replica.loop.drain(seconds)

    def close(self, seconds: float = 0.0) -> None:
        """Drain, and end all loops; closing again changes nothing."""
        if self.alive:
            self.drain(seconds)
        for replica in self.replicas:
            replica.loop.close()

    def _begin(self, request: Request, samples: int, admitted: bool) -> Share:
        """Begin answers at the replica that the router names, or at the least loaded one with a place."""
        there = [replica for replica in self.replicas if replica.loop.alive]
        full: Busy | None = None
        if there:
            named = there[self._router(request, there)]
            others = sorted((one for one in there if one is not named), key=lambda one: one.tokens_asked)
            for replica in (named, *others):
                try:
                    return replica.submit(request, samples, admitted)
                except Busy as error:
                    full = error
                except Draining:  # the loop has ended since it was asked
                    continue
        raise full or Draining("no replica takes requests")
