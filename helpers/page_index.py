"""Which text stands in which page: keys that cannot collide."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Sequence

PageKey = tuple[Hashable, bytes]
"""A full page's text: the number of the text before it, and its own tokens."""

_TOKEN = struct.Struct("q")


class PageIndex:
    """Finds the page in which a text's next `page_size` tokens stand, given the number of the text before them.

    A number stands for one text from its first token on, and is never given twice. So equal keys mean equal texts with no
    hash to trust, and the key of a page that is gone cannot come to mean another text.
    Keys exist for pages in the index and nothing else. Their tokens are bytes (64 bits each), which unlike a tuple of ints
    remember their hash and compare in one go.
    """

    def __init__(self, num_pages: int, page_size: int):
        """An empty index."""
        self.key_of: list[PageKey | None] = [None] * num_pages
        """For each page, its key in the index. To read only."""
        self.number_of: list[Hashable] = [None] * num_pages
        """For each page with a key, the number of the text that ends with it. To read only."""
        self._page_of: dict[PageKey, int] = {}
        self._last_number = 0
        self._page_bytes = page_size * _TOKEN.size
        self._iter_pages = struct.Struct(f"{self._page_bytes}s").iter_unpack

    def __len__(self) -> int:
        return len(self._page_of)

    def find(self, key: PageKey) -> int | None:
        """The page with this key, if there is one."""
        return self._page_of.get(key)

    def match(self, text: bytes, number: Hashable) -> tuple[list[int], list[PageKey], Hashable]:
        """The pages that a packed text starts with, their keys, and the number of what they hold. `number`: the text before."""
        pages: list[int] = []
        keys: list[PageKey] = []
        page_of, number_of = self._page_of.get, self.number_of
        for (tokens,) in self._iter_pages(text):
            key = (number, tokens)
            page = page_of(key)
            if page is None:
                break
            pages.append(page)
            keys.append(key)
            number = number_of[page]
        return pages, keys, number

    def split(self, text: bytes) -> tuple[Iterator[tuple[bytes]], bytes]:
        """The full pages of a packed text, each in a tuple of its own, and the tokens after them."""
        whole = len(text) - len(text) % self._page_bytes
        return self._iter_pages(text[:whole]), text[whole:]

    def add(self, page: int, key: PageKey, number: Hashable = None) -> Hashable:
        """Makes the page the one that this new key finds; gives the number of its text (a new one by default)."""
        if number is None:
            self._last_number += 1
            number = self._last_number
        self._page_of[key] = page
        self.key_of[page] = key
        self.number_of[page] = number
        return number

    def drop(self, page: int) -> None:
        """Forgets the key of a page, if it has one."""
        key = self.key_of[page]
        if key is not None:
            del self._page_of[key]
            self.key_of[page] = None


def root(salt: Hashable) -> Hashable:
    """What stands for the text before the first token, unlike any number. Raises ValueError for a salt that has no hash."""
    try:
        hash(salt)
    except TypeError:
        raise ValueError(f"a salt must be hashable, such as a string; got {type(salt).__name__}") from None
    return (salt,)


def packed(tokens: Sequence[int]) -> bytes:
    """The tokens as bytes, 64 bits each. Raises ValueError for what is no whole number of that size."""
    try:
        return struct.pack(f"{len(tokens)}q", *tokens)
    except struct.error as error:
        raise ValueError(f"token ids must be 64-bit whole numbers: {error}") from None


def first_tokens(text: bytes, n: int) -> bytes:
    """The first `n` tokens of a packed text."""
    return text[: n * _TOKEN.size]
