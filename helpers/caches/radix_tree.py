"""A radix tree of cached texts, without tensors: which pages hold a prompt's longest known beginning.

It also says which pages may be evicted. The structure is RadixAttention's (Zheng et al., SGLang,
arXiv:2312.07104).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from helpers.caches.eviction_queue import POLICIES, EvictionQueue
from helpers.caches.packed_text import first_tokens, packed, root
from helpers.caches.radix_node import TOKEN_BYTES, Node


class Match(NamedTuple):
    """What a text found."""

    num_tokens: int
    """Tokens of the longest cached beginning, in whole pages."""
    pages: tuple[int, ...]
    """The pages that hold them, in order."""
    node: Node
    """The node that ends with those pages: pin it for as long as the pages are in use."""


class Insertion(NamedTuple):
    """Which pages hold a text after `insert`."""

    pages: tuple[int, ...]
    """The pages that hold the text's whole pages from now on.

    A block table with other pages has to be rewritten.
    """
    duplicates: tuple[int, ...]
    """The caller's pages whose text was cached in other pages.

    The tree does not have these pages; the caller frees them.
    """
    node: Node
    """The node that ends with the text: pin it."""


@dataclass(frozen=True)
class TreeStats:
    """What has been asked of a tree so far."""

    look_ups: int
    """Calls of `match`."""
    looked_up_tokens: int
    """Tokens of the texts that were looked up, summed."""
    hit_tokens: int
    """Tokens of these texts that were found, summed."""
    evicted_pages: int
    """Pages that `evict` gave back."""


class RadixTree:
    """Texts in pages of `page_size` tokens: finds the longest cached beginning, and chooses pages to evict.

    The tree owns the pages that `insert` has given it until `evict`, `remove` or `clear` gives them back. So
    a caller with `capacity` pages sees `free + evictable + pinned == capacity` after every call. Only whole
    pages are kept. Texts under different salts never meet: the salt is part of the first page's key, and all
    other pages are below it.

    `match` counts a text as used now. Recency and pins belong to whole nodes. So `match` splits a node in
    which the text ends: otherwise the rest of the node would seem used, and would be pinned too. `peek` asks
    and changes nothing.

    Costs: `match` and `insert` are O(tokens of the text), and O(log leaves) to keep the eviction order. A
    split also moves the rest of its run in memory. `evict` is O(log leaves) for each node and O(1) for each
    page. `pin` and `unpin` are O(depth). Only `nodes` walks over the whole tree.
    """

    def __init__(self, page_size: int = 1, policy: str = "lru"):
        """Make an empty tree. Raises ValueError for a size under 1 and a policy that is not in `POLICIES`."""
        if page_size < 1:
            raise ValueError(f"a page holds 1 token or more, got page_size {page_size}")
        if policy not in POLICIES:
            raise ValueError(f"expected a policy out of {', '.join(POLICIES)}; got {policy!r}")
        self.page_size, self.policy = page_size, policy
        self.root = Node(bytearray(), [], None, None, 0, 0)
        """The empty text, from which all others start."""
        self._page_bytes = page_size * TOKEN_BYTES
        self._queue = EvictionQueue(POLICIES[policy])
        self._held: set[int] = set()
        self._pinned = self._clock = 0
        self._look_ups = self._looked_up_tokens = self._hit_tokens = self._evicted_pages = 0

    @property
    def num_pages(self) -> int:
        """Pages in the tree."""
        return len(self._held)

    @property
    def pinned(self) -> int:
        """Pages that `evict` may not give back."""
        return self._pinned

    @property
    def evictable(self) -> int:
        """Pages that `evict` may give back."""
        return len(self._held) - self._pinned

    def stats(self) -> TreeStats:
        """Return totals since the tree was made."""
        return TreeStats(self._look_ups, self._looked_up_tokens, self._hit_tokens, self._evicted_pages)

    def nodes(self) -> Iterator[Node]:
        """Yield every node but the root, parents before children, in order of insertion.

        Do not change the tree meanwhile.
        """
        for child in self.root.children.values():
            yield from _below(child)

    def peek(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return how many tokens `match` would find. Raises as `match` does.

        Nothing changes, neither the order of eviction nor the statistics.
        """
        return len(self._find(self._whole_pages(tokens), salt)[0]) * self.page_size

    def match(self, tokens: Sequence[int], salt: Hashable = None, again: bool = False) -> Match:
        """Return the longest cached beginning of `tokens` in whole pages, which counts as used now.

        With `again`, a request looks its text up a second time: statistics and numbers of uses do not count
        it.

        A prompt's last token has to be computed, because its logits choose the next one: look up
        `prompt[:-1]`. Raises ValueError for tokens that are no unsigned 32-bit numbers, and a salt that has
        no hash.
        """
        pages, node, inside = self._find(self._whole_pages(tokens), salt)
        if inside < len(node.pages):
            node = self._split(node, inside)
        self._touch(node, uses=0 if again else 1)
        found = len(pages) * self.page_size
        if not again:
            self._look_ups += 1
            self._looked_up_tokens += len(tokens)
            self._hit_tokens += found
        return Match(found, tuple(pages), node)

    def insert(self, tokens: Sequence[int], pages: Sequence[int], salt: Hashable = None) -> Insertion:
        """Add a text's whole pages as far as they are not cached; return which pages hold the text now.

        `pages` are those of the whole text, `len(tokens) // page_size` of them. Pages that `match` returned
        may be among them. The text counts as used now.

        Raises ValueError, before anything changes, for another number of pages, for a page given twice, and
        as `match` does. The same error refuses a page in which the tree holds another text.
        """
        text = self._whole_pages(tokens)
        found, node, inside = self._find(text, salt)
        duplicates = self._check_pages(len(tokens), pages, found)
        if inside < len(node.pages):
            node = self._split(node, inside)
        self._touch(node, uses=0)
        new = list(pages[len(found) :])
        if new:
            node = self._add_leaf(node, text[len(found) * self._page_bytes :], new, salt)
        return Insertion((*found, *new), duplicates, node)

    def pin(self, node: Node) -> None:
        """Keep the text that ends with `node` from eviction until `unpin`.

        Raises ValueError for a node that is no longer in the tree.
        """
        path = self._path(node)
        node.own_pins += 1
        for each in path:
            if not each.pins:
                self._pinned += len(each.pages)
            each.pins += 1
        self._requeue(node)

    def unpin(self, node: Node) -> None:
        """Take back one `pin` of this node. Raises ValueError if there is none."""
        path = self._path(node)
        if not node.own_pins:
            raise ValueError(f"{node!r} is not pinned itself: unpin what was pinned, and once")
        node.own_pins -= 1
        for each in path:
            each.pins -= 1
            if not each.pins:
                self._pinned -= len(each.pages)
        self._requeue(node)

    def evict(self, num_pages: int) -> list[int]:
        """Give up `num_pages` pages, or as many as are evictable; return them.

        They come from the ends of unpinned leaves, in the order of the policy. A leaf with more pages than
        are wanted loses its last ones only. Raises ValueError for a negative number.
        """
        if num_pages < 0:
            raise ValueError(f"cannot evict {num_pages} pages")
        freed: list[int] = []
        while len(freed) < num_pages and (leaf := self._queue.first) is not None:
            wanted = num_pages - len(freed)
            freed += self._cut_end(leaf, wanted) if wanted < len(leaf.pages) else self._cut_off(leaf)
        self._evicted_pages += len(freed)
        return freed

    def remove(self, node: Node) -> list[int]:
        """Give up the pages of a node and of all nodes below it; return them. The text before them stays.

        Raises ValueError for the root, for a node that is no longer in the tree, and if any of these nodes is
        pinned.
        """
        self._path(node)
        if node is self.root:
            raise ValueError("the root has no pages; `clear` empties the tree")
        if node.pins:
            raise ValueError(f"{node!r} has {node.pins} pins on it or below; unpin first")
        return self._cut_off(node)

    def clear(self) -> list[int]:
        """Give up all pages; return them. The statistics go on. Raises ValueError if any page is pinned."""
        if self._pinned:
            raise ValueError(f"{self._pinned} pages are pinned; unpin first")
        return [page for child in list(self.root.children.values()) for page in self._cut_off(child)]

    def _whole_pages(self, tokens: Sequence[int]) -> bytes:
        """Return the packed tokens of whole pages."""
        return first_tokens(packed(tokens), len(tokens) // self.page_size * self.page_size)

    def _find(self, text: bytes, salt: Hashable) -> tuple[list[int], Node, int]:
        """Return the pages of the longest cached beginning, the node in which it ends, and a count.

        The count says how many pages of that node belong to the beginning.
        """
        pages: list[int] = []
        node, size, start = self.root, self._page_bytes, 0
        key: Hashable = (root(salt), text[:size])
        while (child := node.children.get(key)) is not None:
            node = child
            if not text.startswith(node.text, start):
                inside = _common_pages(text, start, node.text, size)
                return pages + node.pages[:inside], node, inside
            pages += node.pages
            start += len(node.text)
            key = text[start : start + size]
        return pages, node, len(node.pages)

    def _check_pages(self, num_tokens: int, pages: Sequence[int], found: list[int]) -> tuple[int, ...]:
        """Return the given pages whose text is cached in others.

        Raises ValueError if these pages cannot be those of a text with so many tokens.
        """
        if len(pages) != num_tokens // self.page_size:
            raise ValueError(
                f"{num_tokens} tokens fill {num_tokens // self.page_size} pages of {self.page_size}, "
                f"got {len(pages)} pages"
            )
        if len(set(pages)) < len(pages):
            raise ValueError(f"a page holds one run of tokens; given twice: {_repeated(pages)}")
        duplicates = [page for page, cached in zip(pages, found, strict=False) if page != cached]
        if not self._held.isdisjoint(duplicates) or not self._held.isdisjoint(pages[len(found) :]):
            taken = sorted(self._held.intersection([*duplicates, *pages[len(found) :]]))
            raise ValueError(f"the tree holds other tokens in pages {taken}")
        return tuple(duplicates)

    def _add_leaf(self, parent: Node, text: bytes, pages: list[int], salt: Hashable) -> Node:
        """Add a leaf below `parent`, created at the present tick; return it."""
        leaf = Node(bytearray(text), pages, parent, salt, self._clock, self._clock)
        parent.children[self._key(leaf)] = leaf
        self._held.update(pages)
        self._requeue(leaf)
        self._requeue(parent)
        return leaf

    def _split(self, node: Node, inside: int) -> Node:
        """Put a new node with the first `inside` pages of a run above the rest; return the new node.

        The old node has the rest of the run, and keeps its children, pins and index in the queue.
        """
        upper = node.beginning(node.text[: inside * self._page_bytes], node.pages[:inside])
        upper.pins = node.pins
        self._above(upper).children[self._key(upper)] = upper
        del node.text[: inside * self._page_bytes], node.pages[:inside]
        node.parent = upper
        upper.children[self._key(node)] = node
        return upper

    def _touch(self, node: Node, uses: int) -> None:
        """Make the text that ends with `node` the latest one used."""
        self._clock += 1
        each: Node | None = node
        while each is not None:
            each.last_use = self._clock
            each.uses += uses
            each = each.parent
        self._requeue(node)

    def _requeue(self, node: Node) -> None:
        """Put a node where it now belongs in the eviction queue; only unpinned leaves belong there."""
        if not node.children and not node.pins and node is not self.root:
            self._queue.put(node)
        elif node.place >= 0:
            self._queue.drop(node)

    def _cut_end(self, leaf: Node, num_pages: int) -> list[int]:
        """Give up the last pages of a leaf; return them, last first.

        A new node has the other pages, and the leaf is no longer in the tree.
        """
        freed = leaf.pages[: -num_pages - 1 : -1]
        del leaf.text[-num_pages * self._page_bytes :], leaf.pages[-num_pages:]
        rest = leaf.beginning(leaf.text, leaf.pages)
        self._above(rest).children[self._key(rest)] = rest
        self._queue.replace(leaf, rest)
        leaf.text, leaf.pages, leaf.parent = bytearray(), [], None
        self._held.difference_update(freed)
        return freed

    def _cut_off(self, node: Node) -> list[int]:
        """Take an unpinned node and all nodes below it out of the tree; return their pages, last first."""
        parent, freed = self._above(node), []
        del parent.children[self._key(node)]
        for each in list(_below(node)):
            freed += each.pages
            each.parent = None
            if each.place >= 0:
                self._queue.drop(each)
        self._requeue(parent)
        self._held.difference_update(freed)
        return freed[::-1]

    def _key(self, node: Node) -> Hashable:
        """Return the key by which a node's parent knows it."""
        page = bytes(node.text[: self._page_bytes])
        return (root(node.salt), page) if node.parent is self.root else page

    def _path(self, node: Node) -> list[Node]:
        """Return the nodes from this one to the root; raise ValueError if that is another root or none."""
        path = [node]
        while (parent := path[-1].parent) is not None:
            path.append(parent)
        if path[-1] is not self.root:
            raise ValueError(f"{node!r} is not in the tree: evicted, removed, or another tree's")
        return path

    def _above(self, node: Node) -> Node:
        """Return the parent of a node that is in the tree and not the root."""
        return node.parent or self.root


def _below(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes below it, parents first."""
    todo = [node]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed(node.children.values())


def _common_pages(text: bytes, start: int, run: bytearray, size: int) -> int:
    """Return how many pages of `size` bytes a run shares with the text from `start` on.

    The run shares at least one page and not all.
    """
    common, beyond = 1, len(run) // size
    while beyond - common > 1:  # halves what is left to compare: O(run) in all
        middle = (common + beyond) // 2
        if text.startswith(run[common * size : middle * size], start + common * size):
            common = middle
        else:
            beyond = middle
    return common


def _repeated(pages: Sequence[int]) -> list[int]:
    """Return the pages that are given more than once."""
    return sorted(page for page, times in Counter(pages).items() if times > 1)
