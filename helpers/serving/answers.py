"""The answers to one call, piece by piece, as the engine computes them."""

from __future__ import annotations

import asyncio
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
    which runs in that loop. A reader that falls behind holds the pieces of this call alone.
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
        self._pieces: asyncio.Queue[Piece | ApiError] = asyncio.Queue()

    async def __anext__(self) -> Piece:
        """Return the next piece of any answer. Raises ApiError when the engine could not go on."""
        if not self.left:
            raise StopAsyncIteration
        piece = await self._pieces.get()
        if isinstance(piece, ApiError):
            self.left = 0
            raise piece
        self.left -= piece.finish_reason is not None
        return piece

    def deliver(self, piece: Piece | ApiError) -> None:
        """Take a piece, or the error that ends all answers of the call."""
        self._pieces.put_nowait(piece)

    def close(self) -> None:
        """Cancel what is not answered yet. Closing again changes nothing."""
        if self.left:
            self.left = 0
            self._cancel(self)
