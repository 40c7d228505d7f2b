"""The order in which pages of a radix tree are evicted, by policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from helpers.caches.radix_node import Node

POLICIES: Mapping[str, Callable[[Node], Any]] = MappingProxyType(
    {
        "lru": attrgetter("last_use"),
        "lfu": attrgetter("uses", "last_use"),
        "fifo": attrgetter("created"),
    }
)
"""For each policy, the key of a node; the leaf with the smallest key is evicted first.

The policies: least recently used, least often matched, first inserted.
"""


class EvictionQueue:
    """Nodes in order of eviction: a binary heap that knows the index of each node.

    So a node enters, leaves or moves in O(log n), and no stale entry is left behind. `heapq` would need stale
    entries, and all of them could come up at once. The queue has as many entries as there are leaves that may
    be evicted.
    """

    def __init__(self, key: Callable[[Node], Any]):
        """Make an empty queue in the order of `key`."""
        self._key = key
        self._nodes: list[Node] = []
        self._keys: list[Any] = []

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def first(self) -> Node | None:
        """The node with the smallest key, if there is any."""
        return self._nodes[0] if self._nodes else None

    def put(self, node: Node) -> None:
        """Enter a node, or move it to where its present key belongs."""
        if node.place < 0:
            node.place = len(self._nodes)
            self._nodes.append(node)
            self._keys.append(None)
        self._settle(node, self._key(node), node.place)

    def drop(self, node: Node) -> None:
        """Take a node out."""
        last, key = self._nodes.pop(), self._keys.pop()
        if last is not node:
            self._settle(last, key, node.place)
        node.place = -1

    def replace(self, node: Node, other: Node) -> None:
        """Put `other`, which has an equal key, where `node` is, and take `node` out."""
        self._nodes[node.place] = other
        other.place, node.place = node.place, -1

    def _settle(self, node: Node, key: Any, place: int) -> None:
        """Fill the vacant index `place`, and keep the heap in order.

        The vacant index moves up past larger keys, or down past smaller ones, until the node fits there.
        """
        nodes, keys = self._nodes, self._keys
        while place and key < keys[above := (place - 1) // 2]:
            self._fill(place, nodes[above], keys[above])
            place = above
        while (below := 2 * place + 1) < len(nodes):
            if below + 1 < len(nodes) and keys[below + 1] < keys[below]:
                below += 1
            if not keys[below] < key:
                break
            self._fill(place, nodes[below], keys[below])
            place = below
        self._fill(place, node, key)

    def _fill(self, place: int, node: Node, key: Any) -> None:
        """Write a node and its key at an index."""
        self._nodes[place], self._keys[place], node.place = node, key, place
