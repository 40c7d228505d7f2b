"""One pass of an engine: its planned chunks, and the step that the log keeps."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from helpers.engine.request import RequestState


class Chunk(NamedTuple):
    """Hold one request's share of the planned pass: the tokens to compute, whose pages are taken."""

    state: RequestState
    tokens: Sequence[int]

    @property
    def num_tokens(self) -> int:
        """Tokens to compute."""
        return len(self.tokens)


@dataclass(frozen=True)
class Part:
    """Record one request's share of a pass."""

    request_id: Hashable
    start: int
    """Tokens of the request that were computed before this pass."""
    num_tokens: int
    """Tokens computed in this pass."""
    decode: bool
    """Whether the pass computed the single token chosen last, rather than a chunk of text."""


@dataclass(frozen=True)
class Step:
    """Record one pass of the engine, for tables and charts. Times are in seconds of the engine's clock."""

    begin: float
    end: float
    parts: tuple[Part, ...]
    preempted: tuple[Hashable, ...]
    """Requests that were preempted when the pass was planned."""
    used_pages: int
    """Pages that requests held during the pass."""
