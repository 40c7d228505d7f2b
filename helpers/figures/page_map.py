"""A pool's pages at one moment: which requests hold each page, and how far it is filled."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from helpers.caches.page_pool import PagePool


@dataclass(frozen=True)
class PageMap:
    """What pages `0, 1, ...` of a pool are used for."""

    page_size: int
    """Slots of a page."""
    holders: tuple[tuple[Hashable, ...], ...]
    """For each page, the requests whose tables name it, in order of admission; none for a free page."""
    filled: tuple[int, ...]
    """For each page, its slots that hold a token of some request."""
    cached: frozenset[int]
    """Free pages that still hold a text which a prompt may hit."""

    @classmethod
    def of(cls, pool: PagePool) -> PageMap:
        """Return the map of this moment; the pool may go on changing."""
        holders: list[list[Hashable]] = [[] for _ in range(pool.num_pages)]
        filled = [0] * pool.num_pages
        for name in pool.requests:
            length = pool.length(name)
            for i, page in enumerate(pool.table(name)):
                holders[page].append(name)
                filled[page] = max(filled[page], min(pool.page_size, length - i * pool.page_size))
        return cls(pool.page_size, tuple(map(tuple, holders)), tuple(filled), frozenset(pool.cached_pages()))

    @property
    def num_pages(self) -> int:
        """Pages of the pool."""
        return len(self.holders)

    @property
    def used(self) -> int:
        """Pages in at least one table."""
        return sum(map(bool, self.holders))

    @property
    def shared(self) -> int:
        """Pages in more than one table."""
        return sum(len(names) > 1 for names in self.holders)

    @property
    def wasted_slots(self) -> int:
        """Slots of used pages that hold no request's token."""
        return self.used * self.page_size - sum(self.filled)

    @property
    def names(self) -> list[Hashable]:
        """The requests that hold something, sorted as text."""
        return sorted({name for names in self.holders for name in names}, key=str)
