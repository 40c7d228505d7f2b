"""Nodes of a radix tree: a run of tokens, the pages that hold it, the nodes below."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from helpers.caches.packed_text import packed

TOKEN_BYTES = len(packed([0]))


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """A run of tokens and the pages that hold it. The runs from the root to a node are a text. To read only.

    A node means the same text as long as it lives. A split puts a new node above it. Eviction of its last
    pages puts a new, shorter node in its stead. So a caller that holds a node can neither pin nor give back
    another text.
    """

    text: bytearray
    """The run's tokens, packed; `tokens` has them as numbers."""
    pages: list[int]
    """The run's pages, in order; none in the root alone."""
    parent: Node | None
    """The node that the run follows; None for the root and for a node that is no longer in the tree."""
    salt: Hashable
    """The salt of the text, which keeps tenants apart."""
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
    """The nodes below, by the first page of their run; below the root by salt, too."""
    place: int = -1
    """The node's index in the eviction queue; -1 when it is not there."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The run's tokens."""
        return tuple(memoryview(self.text).cast("I"))

    def beginning(self, text: bytearray, pages: list[int]) -> Node:
        """Return a node for the beginning of this run, with the same parent and history.

        The new node has no children and no pins.
        """
        return Node(text, pages, self.parent, self.salt, self.created, self.last_use, self.uses)

    def __repr__(self) -> str:
        num_tokens = len(self.text) // TOKEN_BYTES
        return f"Node({num_tokens} tokens, pages={self.pages}, pins={self.pins}, salt={self.salt!r})"
