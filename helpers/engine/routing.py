"""Load over replicas of an engine: who gets the request that comes now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from helpers.engine.request import Request


class Replica(Protocol):
    """What a router asks of an engine: how busy it is, and what of a prompt it has cached."""

    @property
    def num_requests(self) -> int:
        """Requests that are not done yet."""

    @property
    def tokens_asked(self) -> int:
        """Tokens of the prompts and answers of those requests, as far as the engine knows: caps, not true lengths."""

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Tokens of a prompt that its cache holds."""


Router = Callable[[Request, Sequence[Replica]], int]
"""The place of the engine that a request goes to."""


class RoundRobinRouter:
    """Each engine in turn. It fails where heavy requests come in step with the turns, and knows no cache."""

    def __init__(self) -> None:
        self._turn = -1

    def __call__(self, request: Request, engines: Sequence[Replica]) -> int:
        """The next one."""
        self._turn = (self._turn + 1) % len(engines)
        return self._turn


def least_requests(request: Request, engines: Sequence[Replica]) -> int:
    """The engine with the fewest requests, of equals the first. It fails where requests weigh very differently."""
    return min(range(len(engines)), key=lambda i: engines[i].num_requests)


def least_tokens(request: Request, engines: Sequence[Replica]) -> int:
    """The engine with the fewest tokens asked for. It fails where caps say little about lengths, and knows no cache."""
    return min(range(len(engines)), key=lambda i: engines[i].tokens_asked)


class PrefixRouter:
    """The engine with the best score: the cached share of the prompt, less `balance` times its load above the mean, by the mean.

    The load is the tokens asked for. A score of this form was the best simple one in production-stack's discussion 1035. With
    `balance=0` it is cache affinity alone, which fails where one beginning is popular: its engine drowns, the others sleep.
    """

    def __init__(self, balance: float = 1.0):
        """Raises ValueError for a balance below 0."""
        if not balance >= 0:
            raise ValueError(f"the balance must be 0 or more, got {balance}")
        self.balance = balance

    def __call__(self, request: Request, engines: Sequence[Replica]) -> int:
        """The best one, of equals the one with the least load, then the first."""
        loads = [engine.tokens_asked for engine in engines]
        mean = sum(loads) / len(loads)
        prompt = request.prompt_ids
        shares = [engine.cached_tokens(prompt, request.salt) / len(prompt) for engine in engines]
        scores = [
            share - self.balance * (load - mean) / max(1.0, mean)
            for share, load in zip(shares, loads, strict=True)
        ]
        return max(range(len(engines)), key=lambda i: (scores[i], -loads[i], -i))
