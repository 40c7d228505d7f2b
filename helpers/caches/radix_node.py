"""Nodes of a radix tree: a run of tokens, the pages that hold it, who is below."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from helpers.caches.packed_text import packed

TOKEN_BYTES = len(packed([0]))


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """A run of tokens and the pages that hold it; with the runs of the nodes above it, a text. To read only.

    A node stands for the same text as long as it lives: a split puts a new node above it, and eviction of its last pages puts
    a new, shorter one in its place. So who holds a node can neither pin nor give back anything else.
    """

    text: bytearray
    """The run's tokens, packed; `tokens` has them as numbers."""
    pages: list[int]
    """The run's pages, in order; none in the root alone."""
    parent: Node | None
    """The node that the run follows; None for the root and for what is no longer in the tree."""
    salt: Hashable
    """Whose text it is."""
    created: int
    """The tick of the `insert` that brought its pages."""
    last_use: int
    """The tick of the latest `match` or `insert` of a text that goes through it."""
    uses: int = 0
    """How many times `match` went through it."""
    pins: int = 0
    """Pins of this node and of those below it."""
    own_pins: int = 0
    """Pins of this very node."""
    children: dict[Hashable, Node] = field(default_factory=dict)
    """What may follow, by the first page of the run; below the root by salt, too."""
    place: int = -1
    """Where it stands in the eviction queue; -1 when it is not there."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The run's tokens."""
        return tuple(memoryview(self.text).cast("I"))

    def beginning(self, text: bytearray, pages: list[int]) -> Node:
        """A node for the beginning of this run, at the same place, with its history and without children or pins."""
        return Node(text, pages, self.parent, self.salt, self.created, self.last_use, self.uses)

    def __repr__(self) -> str:
        return f"Node({len(self.text) // TOKEN_BYTES} tokens, pages={self.pages}, pins={self.pins}, salt={self.salt!r})"
