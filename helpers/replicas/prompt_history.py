"""What a replica's cache should hold, told from the prompts that were sent there."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from helpers.caches.page_pool import PagePool


class PromptHistory:
    """Keep the pages of the prompts that a distant replica was sent, as its own pool would keep them.

    A router in one process cannot ask a cache in another one at every request. It guesses: prompts are cached
    where they were sent, until as many pages have come that the oldest are gone. The guess knows no answers,
    and no prompts that another router sent.
    """

    def __init__(self, num_pages: int = 512, page_size: int = 16):
        """Begin empty, with the pages of the replica. Raises ValueError for a size under 1."""
        self._pool = PagePool(num_pages, page_size)

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that the replica should have cached."""
        return self._pool.cached_tokens(tokens, salt)

    def note(self, tokens: Sequence[int], salt: Hashable = None) -> None:
        """Note a prompt that was sent to the replica; a prompt of more tokens than all pages hold is cut."""
        known = tokens[: self._pool.num_pages * self._pool.page_size]
        cached = self._pool.admit("prompt", known, salt)
        try:
            self._pool.append("prompt", known[cached:])
            self._pool.confirm("prompt")
        finally:
            self._pool.free("prompt")
