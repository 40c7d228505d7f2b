"""A pool's accounts without tensors, for a scheduler on a virtual clock."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from helpers.caches.page_pool import PagePool


class PaperPages:
    """What `PagedKVCache` is to a scheduler: the same `PagePool`, with the same pages free, and found, at every moment."""

    def __init__(self, num_pages: int, page_size: int = 16, sharing: bool = True):
        """Raises ValueError for a size under 1."""
        self.pool = PagePool(num_pages, page_size, sharing)
        self._touched: dict[Hashable, None] = {}  # requests with something to confirm, in order

    def allocate_request(
        self, request_id: Hashable, initial_length: Sequence[int], salt: Hashable = None
    ) -> int:
        """Begins a request; gives how many of its tokens are cached already."""
        return self.pool.admit(request_id, initial_length, salt)

    def reserve(self, request_id: Hashable, tokens: Sequence[int]) -> int:
        """Takes pages for a request's next tokens; gives how many more go unseen: those that neither take nor fill a page.

        Raises OutOfPages before anything changes.
        """
        self.pool.append(request_id, tokens)
        self._touched[request_id] = None
        return max(0, -self.pool.length(request_id) % self.pool.page_size - 1)

    def commit(self) -> None:
        """The pass is done: what was reserved counts as written."""
        if self._touched:
            self.pool.confirm(*self._touched)
            self._touched.clear()

    def free_request(self, request_id: Hashable) -> None:
        """Ends a request; full pages stay cached until their room is needed."""
        self._touched.pop(request_id, None)
        self.pool.free(request_id)
