"""What the engine asks of a cache in pages."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from helpers.caches.page_pool import PagePool


class Pages(Protocol):
    """Where the cached tokens of requests are accounted for: `PagedKVCache`, or `PaperPages` without tensors."""

    @property
    def pool(self) -> PagePool:
        """The accounts."""

    def allocate_request(
        self, request_id: Hashable, initial_length: Sequence[int], salt: Hashable = None
    ) -> int:
        """Begins a request; gives how many of its tokens are cached already."""

    def reserve(self, request_id: Hashable, tokens: Sequence[int]) -> int | None:
        """Takes pages for its next tokens. Raises OutOfPages before anything changes.

        May give the number of further tokens that need not be told of one by one: then the next call brings them, too.
        """

    def free_request(self, request_id: Hashable) -> None:
        """Gives a request's pages back."""
