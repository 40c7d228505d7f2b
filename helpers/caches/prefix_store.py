"""Which pages of a fixed store hold which texts, and which are evicted for new ones. No tensors.

`KVCacheReuse` adds the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from helpers.caches.radix_node import Node
from helpers.caches.radix_tree import Match, RadixTree


@dataclass(frozen=True)
class ReuseStats:
    """What reuse has saved so far, in tokens."""

    requests: int
    """Requests that were served."""
    prompt_tokens: int
    """Tokens of all prompts."""
    reused_tokens: int
    """Prompt tokens that were found cached, and not computed again."""

    @property
    def hit_rate(self) -> float:
        """The reused share of the prompts' tokens; 0 before the first."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def _nothing(pages: Sequence[int], start: int) -> None:
    """Write nothing, where only pages are counted."""


class PrefixStore:
    """A fixed number of pages behind a radix tree.

    After every call `free + tree.evictable + tree.pinned == capacity` holds, counted in pages.
    """

    def __init__(self, capacity: int, page_size: int = 16, policy: str = "lru"):
        """Make an empty store of `capacity` tokens, in whole pages.

        Raises ValueError for less than one page and for an unknown policy.
        """
        self.tree = RadixTree(page_size, policy)
        if capacity < page_size:
            raise ValueError(f"the capacity must be a page of {page_size} tokens or more, got {capacity}")
        self.capacity = capacity // page_size
        self._free = list(range(self.capacity))
        self._requests = self._prompt_tokens = self._reused_tokens = 0

    @property
    def free(self) -> int:
        """Pages that hold nothing."""
        return self.capacity - self.tree.num_pages

    @property
    def stats(self) -> ReuseStats:
        """What has been asked and saved so far."""
        return ReuseStats(self._requests, self._prompt_tokens, self._reused_tokens)

    @contextmanager
    def using(self, tokens: Sequence[int], salt: Hashable = None, again: bool = False) -> Iterator[Match]:
        """Yield what is stored of a text, pinned within the block; `again` is as in `RadixTree.match`."""
        found = self.tree.match(tokens, salt, again)
        self.tree.pin(found.node)
        try:
            yield found
        finally:
            self.tree.unpin(found.node)

    def keep(
        self,
        tokens: Sequence[int],
        salt: Hashable = None,
        write: Callable[[Sequence[int], int], None] = _nothing,
    ) -> Node:
        """Store a text's whole pages as far as they are new and find room; return the node of their end.

        `write(pages, start)` fills the new pages with the tokens from `start` on. When it fails, nothing is
        stored.
        """
        size = self.tree.page_size
        if len(self._free) != self.free:  # `evict`, `remove` or `clear` gave pages to another caller
            held = {page for node in self.tree.nodes() for page in node.pages}
            self._free = [page for page in range(self.capacity) if page not in held]
        with self.using(tokens, salt, again=True) as found:  # making room must not evict it
            missing = len(tokens) // size - len(found.pages)
            if missing > self.free:
                self._free += self.tree.evict(missing - self.free)
            new = [self._free.pop() for _ in range(min(missing, self.free))]
            if not new:
                return found.node
            try:
                write(new, found.num_tokens)
            except BaseException:
                self._free += new
                raise
            pages = [*found.pages, *new]
            return self.tree.insert(tokens[: len(pages) * size], pages, salt).node

    def reset(self) -> None:
        """Forget every stored text, as after a change of weights; totals go on.

        Raises ValueError while a text is pinned.
        """
        self.tree.clear()

    def count(self, prompt_tokens: int, reused_tokens: int) -> None:
        """Add a request to the statistics."""
        self._requests += 1
        self._prompt_tokens += prompt_tokens
        self._reused_tokens += reused_tokens

    def replay(self, prompts: Sequence[Sequence[int]], salts: Sequence[Hashable] | None = None) -> ReuseStats:
        """Serve prompts one after the other without tensors; return what would be reused.

        The last token of each prompt is always computed.
        """
        for prompt, salt in zip(prompts, salts or [None] * len(prompts), strict=True):
            with self.using(prompt[:-1], salt) as found:
                self.keep(prompt, salt)
            self.count(len(prompt), found.num_tokens)
        return self.stats
