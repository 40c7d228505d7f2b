"""One pass of an engine, as its log keeps it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


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
