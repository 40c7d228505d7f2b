"""One request's pages in a pool, and what is known of the text in them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from helpers.caches.packed_text import first_tokens
from helpers.caches.page_index import PageIndex


@dataclass(slots=True, eq=False)
class RequestPages:
    """One request's page table, its length in tokens, and how far its text is known and written."""

    name: Hashable
    table: list[int]
    """Pages in the order of the request's tokens."""
    salt_key: Hashable
    """The key before the first token, from the salt (`packed_text.root`)."""
    prefix_id: Hashable
    """The index's id of the text in the full pages of known tokens."""
    num_known: int = 0
    """Leading tokens that are known; no token is known after the first anonymous one."""
    tail: bytes = b""
    """Packed known tokens after those full pages."""
    length: int = 0
    """Tokens."""
    written: int = 0
    """Tokens that finished steps have written."""
    num_hit_pages: int = 0
    """Leading pages that the request found cached; another request may have yet to write some of them."""

    def fork(self, name: Hashable) -> RequestPages:
        """Return a copy for another request: the same pages in a table of its own."""
        return RequestPages(
            name, self.table[:], self.salt_key, self.prefix_id, self.num_known, self.tail, self.length,
            self.written, self.num_hit_pages,
        )  # fmt: skip

    def slots(self, start: int, stop: int, page_size: int) -> list[int]:
        """Return the slots of the tokens `start:stop`; a token's slot is `page * page_size + offset`."""
        first = start // page_size
        pages = self.table[first : num_pages_of(stop, page_size)]
        slots = [slot for page in pages for slot in range(page * page_size, page * page_size + page_size)]
        return slots[start - first * page_size : stop - first * page_size]

    def forget_text(self, length: int, index: PageIndex, page_size: int) -> None:
        """Shorten the known text to `length` tokens, fewer than now; the table still has all pages."""
        full, rest = divmod(length, page_size)
        if full == self.num_known // page_size:
            self.tail = first_tokens(self.tail, rest)
        elif text := index.text(self.table[full]):
            self.prefix_id, self.tail = text[0], first_tokens(text[1], rest)
        else:  # the page was withdrawn just now, with all after it: the cut is at its beginning
            self.prefix_id = index.prefix_id(self.table[full - 1]) if full else self.salt_key
            self.tail = b""
        self.num_known = length


def num_pages_of(num_tokens: int, page_size: int) -> int:
    """Return the number of pages that so many tokens take."""
    return -(-num_tokens // page_size)
