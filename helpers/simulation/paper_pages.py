"""A pool's accounts without tensors, for a scheduler on a virtual clock."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from helpers.caches.page_pool import PagePool
from helpers.caches.pages import Pages


class PaperPages(Pages):
    """Keep the accounts of a `PagedKVCache` for a scheduler.

    The same pages are free, and cached, at every moment. A page event is a token that takes or fills a page.
    Other tokens change nothing that a request could notice. So those tokens stay untold until the next page
    event, when the pool is told of all of them. Most decode steps of a simulation then cost one addition.
    """

    def __init__(self, num_pages: int, page_size: int = 16, sharing: bool = True):
        """Make the accounts of a pool of free pages. Raises ValueError for a size under 1."""
        super().__init__(PagePool(num_pages, page_size, sharing))
        self._touched: dict[Hashable, None] = {}  # requests with something to confirm, in order
        self._untold: dict[Hashable, list[int]] = {}  # reserved tokens that the pool has not been told of
        self._room: dict[Hashable, int] = {}  # how many tokens may stay untold before the next page event

    def can_reserve(self, request_id: Hashable, num_tokens: int, freed: Sequence[Hashable] = ()) -> bool:
        """Return whether `reserve` would find its pages if the requests `freed` were freed first."""
        num_tokens += len(self._untold.get(request_id, ()))
        return num_tokens <= self._room.get(request_id, 0) or super().can_reserve(
            request_id, num_tokens, freed
        )

    def reserve(self, request_id: Hashable, tokens: Sequence[int]) -> None:
        """Take pages for a request's next tokens. Raises OutOfPages before anything changes."""
        untold = self._untold.get(request_id)
        if untold is not None:
            if len(untold) + len(tokens) <= self._room[request_id]:
                untold += tokens
                return
            tokens = [*untold, *tokens]
        self.pool.append(request_id, tokens)
        self._touched[request_id] = None
        self._untold[request_id] = []
        self._room[request_id] = -self.pool.length(request_id) % self.pool.page_size - 1

    def reserve_in_turn(self, texts: Sequence[tuple[Hashable, Sequence[int]]]) -> None:
        """Take pages for several passes, as `Pages` does: from page event to page event."""
        passes = len(texts[0][1]) if texts else 0
        due: list[list[int]] = [[] for _ in range(passes)]  # for each pass, the texts with a page event
        for i, (name, tokens) in enumerate(texts):
            untold, room = self._untold.get(name), self._room.get(name, 0)
            left = room - len(untold) if untold is not None else 0
            if untold is not None and left >= passes:
                untold += tokens
            else:
                due[max(0, left)].append(i)
        reserved = [0] * len(texts)
        for at, events in enumerate(due):
            for i in sorted(events):
                name, tokens = texts[i]
                self.reserve(name, tokens[reserved[i] : at + 1])
                reserved[i] = at + 1
                following = at + 1 + max(0, self._room[name])
                if following < passes:
                    due[following].append(i)
                elif at + 1 < passes:
                    self._untold[name] += tokens[at + 1 :]

    def commit(self) -> None:
        """End the pass: reserved tokens count as written."""
        if self._touched:
            self.pool.confirm(*self._touched)
            self._touched.clear()

    def fork(self, parent_id: Hashable, child_id: Hashable) -> None:
        """Begin a request with all tokens of its parent, whose untold tokens the pool is told first."""
        self._room.pop(parent_id, None)
        if untold := self._untold.pop(parent_id, None):
            self.pool.append(parent_id, untold)
            self.pool.confirm(parent_id)
        self.pool.fork(parent_id, child_id)

    def free_request(self, request_id: Hashable) -> None:
        """End a request; full pages stay cached until their room is needed."""
        self._touched.pop(request_id, None)
        self._room.pop(request_id, None)
        self._untold.pop(request_id, None)
        self.pool.free(request_id)

    def abandon(self) -> None:
        """Do nothing: a pass on paper never fails."""
