"""Routing over replicas of an engine: which replica gets a new request."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol

from helpers.engine.request import Request


class Replica(Protocol):
    """Tell a router how busy an engine is, and how much of a prompt the engine's cache holds."""

    @property
    def num_requests(self) -> int:
        """Requests that are not done yet."""

    @property
    def tokens_asked(self) -> int:
        """Tokens of the prompts and answers of all unfinished requests; answers count with `max_tokens`."""

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that the engine's cache holds."""


Router = Callable[[Request, Sequence[Replica]], int]
"""Returns the index of the engine that a request goes to."""


class RoundRobinRouter:
    """Name each engine in turn.

    This router fails where heavy requests come in step with the turns, and ignores caches.
    """

    def __init__(self) -> None:
        """Begin with the first engine."""
        self._turn = -1

    def __call__(self, request: Request, engines: Sequence[Replica]) -> int:
        """Return the index of the next engine."""
        self._turn = (self._turn + 1) % len(engines)
        return self._turn


def least_requests(request: Request, engines: Sequence[Replica]) -> int:
    """Return the index of the engine with the fewest requests, of equal engines the first.

    This router fails where some requests take far more work than others.
    """
    return min(range(len(engines)), key=lambda i: engines[i].num_requests)


def least_tokens(request: Request, engines: Sequence[Replica]) -> int:
    """Return the index of the engine with the fewest tokens asked for, of equal engines the first.

    This router fails where `max_tokens` says little about an answer's length, and ignores caches.
    """
    return min(range(len(engines)), key=lambda i: engines[i].tokens_asked)


class PrefixRouter:
    """Name the engine with the best score: `cached share of the prompt - balance * (load - mean) / mean`.

    The load is the tokens asked for, the mean that of all engines. A score of this form was the best simple
    one in production-stack's discussion 1035. With `balance=0` the score is cache affinity alone. Affinity
    alone fails where one prefix is popular: one engine is overloaded while the others are idle.
    """

    def __init__(self, balance: float = 1.0):
        """Set the weight of the load. Raises ValueError for a balance below 0."""
        if not balance >= 0:
            raise ValueError(f"the balance must be 0 or more, got {balance}")
        self.balance = balance

    def __call__(self, request: Request, engines: Sequence[Replica]) -> int:
        """Return the index of the best engine.

        Of equal engines, that is the engine with the least load, and then the first.
        """
        loads = [engine.tokens_asked for engine in engines]
        mean = sum(loads) / len(loads)
        prompt = request.prompt_ids
        shares = [engine.cached_tokens(prompt, request.salt) / len(prompt) for engine in engines]
        scores = [
            share - self.balance * (load - mean) / max(1.0, mean)
            for share, load in zip(shares, loads, strict=True)
        ]
        return max(range(len(engines)), key=lambda i: (scores[i], -loads[i], -i))


class TwoChoicesRouter:
    """Draw two engines, and name the engine of the two with fewer tokens asked for.

    Two drawn engines come close to asking all engines, and spread what several routers send at once: routers
    that all name the least loaded engine send everything there. This router ignores caches. Source:
    Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (IEEE TPDS 12(10), 2001).
    """

    def __init__(self, seed: int = 0) -> None:
        """Begin the draws that belong to a seed."""
        self._random = random.Random(seed)

    def __call__(self, request: Request, engines: Sequence[Replica]) -> int:
        """Return the index of the engine with the smaller load; of equal engines, the one drawn first."""
        drawn = self._random.sample(range(len(engines)), min(2, len(engines)))
        return min(drawn, key=lambda i: engines[i].tokens_asked)


class BoundedPrefixRouter:
    """Name the engine with the most cached tokens of the prompt among those that are not too busy.

    An engine is too busy when its load is more than `slack` tokens above the least load; the load is the
    tokens asked for. So no request goes to an engine whose load is further above the least load, whatever is
    cached there. Where requests only come, the loads of two engines never differ by more than `slack` and the
    largest request. The bound costs cached tokens where one prefix is popular, and that is its purpose.
    Source of the idea: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads
    (arXiv:1608.01350).
    """

    def __init__(self, slack: int = 1024):
        """Set the bound, in tokens. Raises ValueError for a bound below 0."""
        if not slack >= 0:
            raise ValueError(f"the slack must be 0 tokens or more, got {slack}")
        self.slack = slack

    def __call__(self, request: Request, engines: Sequence[Replica]) -> int:
        """Return the index of the best engine.

        Of equal engines, that is the engine with the least load, and then the first.
        """
        loads = [engine.tokens_asked for engine in engines]
        allowed = [i for i, load in enumerate(loads) if load <= min(loads) + self.slack]
        cached = {i: engines[i].cached_tokens(request.prompt_ids, request.salt) for i in allowed}
        return max(allowed, key=lambda i: (cached[i], -loads[i], -i))


ROUTERS: Mapping[str, Callable[[], Router]] = {
    "round-robin": RoundRobinRouter,
    "least-requests": lambda: least_requests,
    "least-tokens": lambda: least_tokens,
    "two-choices": TwoChoicesRouter,
    "prefix": PrefixRouter,
    "bounded-prefix": BoundedPrefixRouter,
}
"""Makes a new router, by name."""


def named_router(name: str) -> Router:
    """Return a new router of that name. Raises ValueError for an unknown name."""
    if name not in ROUTERS:
        raise ValueError(f"unknown router {name!r}; there are {', '.join(ROUTERS)}")
    return ROUTERS[name]()
