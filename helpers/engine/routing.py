"""Routing over replicas of an engine: which replica gets a new request."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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
