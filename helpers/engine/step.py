"""One pass of an engine: the chunks that are planned, and the step that the log keeps."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from helpers.engine.request import RequestState


class Chunk(NamedTuple):
    """One request's share of the pass that is planned: the tokens that it computes, whose pages are taken."""

    state: RequestState
    tokens: Sequence[int]

    @property
    def num_tokens(self) -> int:
        """Tokens to compute."""
        return len(self.tokens)


@dataclass(frozen=True)
class Part:
    """One request's share of a pass."""

    request_id: Hashable
    start: int
    """Tokens that it had computed before."""
    num_tokens: int
    """Tokens computed in this pass."""
    decode: bool
    """Whether that was the single token chosen last, rather than a chunk of text."""


@dataclass(frozen=True)
class Step:
    """One pass of the engine, for tables and charts."""

    begin: float
    end: float
    parts: tuple[Part, ...]
    preempted: tuple[Hashable, ...]
    used_pages: int
