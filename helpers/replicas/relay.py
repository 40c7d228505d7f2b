"""The answers to one call, carried from replicas to the reader, across the death of replicas.

An answer goes on elsewhere from its prompt and its tokens so far. That is exact: a greedy token depends on the
text before it, a drawn token on the text, the seed and the token's number (`Request.answered`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace

from helpers.engine.request import Request
from helpers.replicas.replica import Share
from helpers.serving.answers import Answers, Piece
from helpers.serving.errors import ApiError, EngineLost, RequestFailed

Begin = Callable[[Request, int, bool], Share]
"""Begins so many answers to a request at some replica; True says that a replica had admitted them before.

Raises ApiError.
"""


@dataclass
class Strand:
    """Hold how far one answer has come, and with it the rest of the answer can be asked for."""

    request: Request
    sample: int
    choice: int
    """The answer's number in its call."""
    tokens: list[int] = field(default_factory=list)
    characters: int = 0
    """Characters of the text that the reader has been sent."""
    known: int = 0
    """Characters at the beginning of the next piece that the reader has already."""
    ended: bool = False
    deaths: int = 0
    """Replicas that died on this answer, one after the other, without a new token."""
    moves: int = 0
    """Replicas that died on this answer."""

    def take(self, piece: Piece) -> Piece:
        """Note a new token; return the piece as the reader gets it."""
        self.tokens.append(piece.token_id)
        text, self.known = piece.text[self.known :], 0
        self.characters += len(text)
        self.deaths, self.ended = 0, piece.finish_reason is not None
        cached = piece.cached_tokens if self.sample == 0 else 0
        return piece._replace(choice=self.choice, text=text, cached_tokens=cached)

    def rest(self) -> Request:
        """Return the request for the rest of the answer, whose first piece tells the text from its beginning."""
        asked, self.known = self.request, self.characters
        name = (asked.request_id, self.sample, self.moves)
        return replace(asked, request_id=name, seed=asked.seed + self.sample, answered=tuple(self.tokens))


class Relay:
    """Bring one call's pieces from replicas to `answers`; a replica's death moves its answers to another.

    An answer on which `most_deaths` replicas die without a new token between fails: the request may be what
    kills them.
    """

    def __init__(self, answers: Answers, begin: Begin, most_deaths: int = 3):
        """Begin without requests; the call belongs to the event loop that runs."""
        self._answers, self._begin, self._most_deaths = answers, begin, most_deaths
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, request: Request, samples: int, first_choice: int, admitted: bool = False) -> None:
        """Begin a request's answers: choices from `first_choice` on. Raises ApiError before anything begins."""
        strands = [Strand(request, sample, first_choice + sample) for sample in range(samples)]
        share = self._begin(request, samples, admitted)
        self._spawn(self._follow(share, strands), share)

    def cancel(self) -> None:
        """End all that is not answered yet."""
        for task in list(self._tasks):
            task.cancel()

    def _spawn(self, work: Coroutine[None, None, None], share: Share) -> None:
        """Run a coroutine as a task; when the task ends, in any way, its share is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def done(_: object) -> None:
            self._tasks.discard(task)
            share.close()

        task.add_done_callback(done)

    async def _follow(self, share: Share, strands: Sequence[Strand]) -> None:
        """Bring a share's pieces to the reader until all its answers have ended, here or elsewhere."""
        try:
            await self._bring(share, strands)
        except ApiError as error:
            share.close()
            self._fail(error)
        except Exception as error:  # a router may raise anything, and the reader must hear of it
            share.close()
            self._fail(RequestFailed(f"{type(error).__name__}: {error}"))

    async def _bring(self, share: Share, strands: Sequence[Strand]) -> None:
        """Bring the pieces of one replica; when the replica dies, begin the rest of its answers elsewhere."""
        try:
            async for piece in share.pieces:
                strand = strands[piece.choice]
                self._answers.deliver(strand.take(piece))
                if strand.ended:
                    share.ended()
        except EngineLost as lost:
            share.close()
            for strand in strands:
                if not strand.ended:
                    self._go_on(strand, lost)

    def _go_on(self, strand: Strand, lost: EngineLost) -> None:
        """Have another replica compute the rest of an answer. Raises ApiError where that cannot be."""
        strand.deaths, strand.moves = strand.deaths + 1, strand.moves + 1
        if strand.deaths >= self._most_deaths:
            raise lost
        share = self._begin(strand.rest(), 1, True)
        self._spawn(self._follow(share, [strand]), share)

    def _fail(self, error: ApiError) -> None:
        """End the call with an error."""
        self._answers.deliver(error)
        self.cancel()
