"""Which text stands in which page, without a hash that could collide."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence

from helpers.caches.packed_text import TOKEN


class PageIndex:
    """Finds the page in which a text's next `page_size` tokens stand, given the number of the text before them.

    A number stands for one text from its first token on, and is never given twice. So equal keys (number, tokens) mean
    equal texts, with no hash to trust, and the key of a page that is gone cannot come to mean another text.
    One page has the key of a text. Another page with the same text is its *twin*: known, but not found. The index
    remembers nothing but these pages. Tokens are packed into bytes (32 bits each), which unlike tuples of ints remember
    their hash and compare in one go.
    """

    def __init__(self, num_pages: int, page_size: int):
        """An empty index."""
        self.tokens_of: list[bytes | None] = [None] * num_pages
        """For each page that has a key, its tokens. To read only."""
        self.twins: dict[int, tuple[Hashable, bytes]] = {}
        """Twins and the key of their text. To read only."""
        self._before: list[Hashable] = [None] * num_pages  # number of the text before a page that has a key
        self._number = [0] * num_pages  # of the text that ends with a page or twin
        self._next = [
            0
        ] * num_pages  # the page that was last to continue a page's text: a guess that `match` checks
        self._page_of: dict[tuple[Hashable, bytes], int] = {}
        self._last_number = 0
        self._page_bytes = page_size * TOKEN.size
        self._iter_pages = struct.Struct(f"{self._page_bytes}s").iter_unpack

    def __len__(self) -> int:
        return len(self._page_of)

    def find(self, key: tuple[Hashable, bytes]) -> int | None:
        """The page that has this key, if there is one."""
        return self._page_of.get(key)

    def text(self, page: int) -> tuple[Hashable, bytes] | None:
        """The key of a page's text, if it is known, and whether or not the page is the one to be found by it."""
        tokens = self.tokens_of[page]
        return self.twins.get(page) if tokens is None else (self._before[page], tokens)

    def number(self, page: int) -> int:
        """The number of the text that ends with a page of known text."""
        return self._number[page]

    def match(self, text: bytes, number: Hashable) -> tuple[list[int], Hashable]:
        """The pages that packed tokens of whole pages start with, after the text `number`; the number of what they hold."""
        pages: list[int] = []
        before, tokens_of, numbers, following = self._before, self.tokens_of, self._number, self._next
        page = 0
        for (tokens,) in self._iter_pages(text):
            # The guess saves a hash and a search. `is` is enough: a number travels as one object, and if not, we search.
            page = following[page]
            if before[page] is not number or tokens_of[page] != tokens:
                found = self._page_of.get((number, tokens))
                if found is None:
                    break
                page = found
            pages.append(page)
            number = numbers[page]
        return pages, number

    def enter(self, table: Sequence[int], start: int, number: Hashable, text: bytes) -> tuple[list[int], int]:
        """Makes packed tokens of whole pages known as what stands in `table[start:]`, after the text `number`.

        Gives the pages that got a key, and the number of the text with them; the other pages are twins.
        """
        new = []
        previous = table[start - 1]  # of a first page some page or other: a wrong guess does no harm
        for page, (tokens,) in zip(table[start:], self._iter_pages(text), strict=False):
            found = self._page_of.get((number, tokens))
            if found is None:
                new.append(page)
                self._last_number += 1
                self._add(page, (number, tokens), self._last_number)
                self._next[previous] = page
                previous = page
            else:
                self.twins[page] = (number, tokens)
                self._number[page] = self._number[found]
                previous = found
            number = self._number[page]
        return new, self._number[page]

    def promote(self, twin: int) -> None:
        """Gives a twin the key of its text, which no page has."""
        self._add(twin, self.twins.pop(twin), self._number[twin])

    def drop(self, page: int) -> None:
        """Forgets what stands in a page, if it is known."""
        tokens = self.tokens_of[page]
        if tokens is None:
            self.twins.pop(page, None)
        else:
            del self._page_of[self._before[page], tokens]
            self.tokens_of[page] = None

    def _add(self, page: int, key: tuple[Hashable, bytes], number: int) -> None:
        """Makes the page the one that this key finds."""
        self._page_of[key] = page
        self._before[page], self.tokens_of[page] = key
        self._number[page] = number
