"""The answers to one call, piece by piece, as the engine computes them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Literal, NamedTuple

from helpers.engine.request import TokenLogprobs
from helpers.serving.errors import ApiError


class Piece(NamedTuple):
    """Hold what one new token adds to an answer."""

    choice: int
    """The answer's number among the answers of its call, from 0."""
    text: str
    """New characters; empty where a later token could still change them."""
    logprobs: TokenLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None
    """Why the answer ends here, or None."""
    cached_tokens: int = 0
    """Prompt tokens that were cached already; told with the last piece of the first answer to a prompt."""
    token_id: int = -1
    """The new token."""


class Answers(AsyncIterator[Piece]):
    """Hold the answers to one call: iterate over their pieces, and `close` what is not read to its end.

    Belongs to the event loop in which the object was made. The engine's thread brings pieces by `deliver`,
    which runs in that loop. One reader takes the pieces. A reader that falls behind holds the pieces of this
    call alone.
    """

    def __init__(self, num_choices: int, received: float, cancel: Callable[[Answers], None]):
        """Await so many answers; `cancel` is called once if the reader leaves before their end.

        `received` is when the call came, in seconds of the engine's clock.
        """
        self.loop = asyncio.get_running_loop()
        self.received, self.left = received, num_choices
        self.names: set[Hashable] = set()
        """The engine's requests that work for this call; the engine's thread keeps them."""
        self._cancel = cancel
        self._pieces: deque[Piece | ApiError] = deque()
        self._arrival: asyncio.Future[None] | None = None  # what a reader waits for

    async def __anext__(self) -> Piece:
        """Return the next piece of any answer. Raises ApiError when the engine could not go on."""
        if not self.left:
            raise StopAsyncIteration
        await self._arrived()
        return self._next()

    async def some(self) -> list[Piece]:
        """Return all pieces that are there, after the first has come; an empty list after the end.

        Raises ApiError when the engine could not go on; the pieces before the error come first.
        """
        if not self.left:
            return []
        await self._arrived()
        pieces = [self._next()]
        while self.left and self._pieces and not isinstance(self._pieces[0], ApiError):
            pieces.append(self._next())
        return pieces

    def deliver(self, piece: Piece | ApiError) -> None:
        """Take a piece, or the error that ends all answers of the call."""
        self._pieces.append(piece)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def close(self) -> None:
        """Cancel what is not answered yet. Closing again changes nothing."""
        if self.left:
            self.left = 0
            self._cancel(self)

    async def _arrived(self) -> None:
        """Wait until a piece is there."""
        # A queue of asyncio would serve any number of readers and writers, at a higher price for each piece.
        while not self._pieces:
            self._arrival = self.loop.create_future()
            await self._arrival

    def _next(self) -> Piece:
        """Return the first piece that is there, or raise the error that is there."""
        piece = self._pieces.popleft()
        if isinstance(piece, ApiError):
            self.left = 0
            raise piece
        self.left -= piece.finish_reason is not None
        return piece
