"""Which page holds which text, without a hash that could collide."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence

from helpers.caches.packed_text import TOKEN

Key = tuple[Hashable, bytes]
"""A prefix id, and the packed tokens of the page that follows that prefix."""


class PageIndex:
    """Finds the page that holds a text's next `page_size` tokens, given the id of the prefix before them.

    A prefix id means one text, counted from its first token. No id is given twice. So equal keys (prefix id,
    tokens) mean equal texts, with no hash to trust. The key of a page that is gone can never mean another
    text.

    One page has the key of a text. Another page with the same text is its *duplicate*: known, but not found.
    When the page with the key is dropped, a duplicate takes the key over. The index remembers nothing but
    these pages.

    Tokens are packed into bytes, 32 bits each. Unlike tuples of ints, bytes remember their hash and compare
    in one go.
    """

    def __init__(self, num_pages: int, page_size: int):
        """Make an empty index for pages 0 to `num_pages - 1`."""
        self.tokens_of: list[bytes | None] = [None] * num_pages
        """For each page that has a key, its tokens. To read only."""
        self.duplicates: dict[int, Key] = {}
        """Duplicates and the key of their text. To read only."""
        self._duplicates_of: dict[Key, dict[int, None]] = {}
        self._prefix: list[Hashable] = [None] * num_pages  # the id of the text before a page that has a key
        self._id = [0] * num_pages  # of the text that ends with a page or duplicate
        # The page that was last to continue a page's text: a guess that `match` checks.
        self._next = [0] * num_pages
        self._page_of: dict[Key, int] = {}
        self._last_id = 0
        self._page_bytes = page_size * TOKEN.size
        self._iter_pages = struct.Struct(f"{self._page_bytes}s").iter_unpack

    def __len__(self) -> int:
        return len(self._page_of)

    def find(self, key: Key) -> int | None:
        """Return the page that has this key, or None."""
        return self._page_of.get(key)

    def text(self, page: int) -> Key | None:
        """Return the key of the text in a page, also of a duplicate; None where the text is not known."""
        tokens = self.tokens_of[page]
        return self.duplicates.get(page) if tokens is None else (self._prefix[page], tokens)

    def prefix_id(self, page: int) -> int:
        """Return the id of the text that ends with a page of known text."""
        return self._id[page]

    def match(self, text: bytes, prefix_id: Hashable) -> tuple[list[int], Hashable]:
        """Return the pages that a packed text of whole pages starts with, and the id of their text.

        `prefix_id` names the text before the packed one; with no page found, it is the id that is returned.
        """
        pages: list[int] = []
        prefix, tokens_of, ids, following = self._prefix, self.tokens_of, self._id, self._next
        page = 0
        for (tokens,) in self._iter_pages(text):
            # The guess saves a hash and a search. `is` is enough: an id is one object, and if not, we search.
            page = following[page]
            if prefix[page] is not prefix_id or tokens_of[page] != tokens:
                found = self._page_of.get((prefix_id, tokens))
                if found is None:
                    break
                page = found
            pages.append(page)
            prefix_id = ids[page]
        return pages, prefix_id

    def after(self, prefix_id: Hashable, pages: Sequence[int]) -> list[int]:
        """Return those of `pages`, which have keys, whose text begins with the text of this id.

        These pages can be found through that text alone.
        """
        following: dict[Hashable, list[int]] = {}
        for page in pages:
            following.setdefault(self._prefix[page], []).append(page)
        found = following.get(prefix_id, [])
        for page in found:  # grows while it is walked
            found += following.get(self._id[page], [])
        return found

    def enter(self, table: Sequence[int], start: int, prefix_id: Hashable, text: bytes) -> int:
        """Record a packed text of whole pages as the content of `table[start:]`; return the id of its end.

        `prefix_id` names the text before it. Where a page has the same text already, the new page becomes its
        duplicate.
        """
        # For `start` 0 this is the table's last page. Any page will do, because `match` checks the guess.
        previous = table[start - 1]
        for page, (tokens,) in zip(table[start:], self._iter_pages(text), strict=False):
            key = (prefix_id, tokens)
            found = self._page_of.get(key)
            if found is None:
                self._last_id += 1
                self._add(page, key, self._last_id)
                self._next[previous] = page
                previous = page
            else:
                self.duplicates[page] = key
                self._duplicates_of.setdefault(key, {})[page] = None
                self._id[page] = self._id[found]
                previous = found
            prefix_id = self._id[page]
        return self._id[page]

    def drop(self, page: int) -> int | None:
        """Forget the text of a page; return the duplicate that takes the key over, or None.

        A page of unknown text is left as it is.
        """
        tokens = self.tokens_of[page]
        if tokens is None:
            self._forget_duplicate(page)
            return None
        key = self._prefix[page], tokens
        del self._page_of[key]
        self.tokens_of[page] = None
        if not self.duplicates or key not in self._duplicates_of:
            return None
        heir = next(iter(self._duplicates_of[key]))
        self._forget_duplicate(heir)
        self._add(heir, key, self._id[heir])
        return heir

    def _forget_duplicate(self, page: int) -> None:
        """Take a page out of the duplicates, if it is one."""
        key = self.duplicates.pop(page, None)
        if key is not None:
            pages = self._duplicates_of[key]
            del pages[page]
            if not pages:
                del self._duplicates_of[key]

    def _add(self, page: int, key: Key, prefix_id: int) -> None:
        """Give the page this key, so that `find` returns it."""
        self._page_of[key] = page
        self._prefix[page], self.tokens_of[page] = key
        self._id[page] = prefix_id
