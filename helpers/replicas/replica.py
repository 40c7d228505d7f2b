"""One engine of a group, as a router sees it: how busy it is, and what its cache holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Protocol

from helpers.engine.request import Request
from helpers.serving.answers import Piece
from helpers.serving.engine_loop import Loop


class CachingLoop(Loop, Protocol):
    """A loop that tells what its cache holds."""

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that the cache holds."""


class Share:
    """Hold the answers to one request that one replica computes, and what they count there.

    `pieces` has one piece for each new token. Each answer counts in the replica's load until it ends.
    """

    def __init__(self, pieces: AsyncIterator[Piece], size: int, count: Callable[[int, int], None]):
        """Begin without load; `count` adds requests and tokens to a load, and `size` is an answer's tokens."""
        self.pieces, self._size, self._count, self._left = pieces, size, count, 0

    def begin(self, samples: int) -> Share:
        """Add the answers to the load; return the share."""
        self._left = samples
        self._count(samples, samples * self._size)
        return self

    def ended(self) -> None:
        """Note that one of the answers ended."""
        if self._left:
            self._left -= 1
            self._count(-1, -self._size)

    def close(self) -> None:
        """Give up what is not answered yet. Closing again changes nothing."""
        self._count(-self._left, -self._left * self._size)
        self._left = 0
        close = getattr(self.pieces, "close", None)
        if close is not None:
            close()


class Replica:
    """Show a router one engine loop. The group's event loop alone uses this object.

    The load is counted from what was sent here and has not ended, the way a simulated engine counts.
    """

    def __init__(self, loop: CachingLoop):
        """Begin without load."""
        self.loop = loop
        self.num_requests = self.tokens_asked = 0

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that the engine's cache holds."""
        return self.loop.cached_tokens(tokens, salt)

    def submit(self, request: Request, samples: int, admitted: bool = False) -> Share:
        """Begin `samples` answers to a request here. Raises ApiError as `EngineLoop.submit` does."""
        answers = self.loop.submit([request], samples, admitted)
        return Share(answers, len(request.prompt_ids) + request.max_tokens, self._add).begin(samples)

    def _add(self, requests: int, tokens: int) -> None:
        """Change the load."""
        self.num_requests += requests
        self.tokens_asked += tokens
