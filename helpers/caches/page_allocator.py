"""The pages of a pool: how many tables name each one, and the order in which free ones are taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class PageAllocator:
    """Reference counts and the free queue of pages `0` to `num_pages - 1`.

    The queue has two parts. Blank pages are taken first, the page given back last before the others. Then
    follow pages that are kept because a prompt may ask for their text again. Of these, the page free for
    longest comes first (LRU).

    Every operation is O(1) for each page that it names, whatever the size of the pool.
    """

    def __init__(self, num_pages: int):
        """Make all pages free and blank; page 0 is taken first."""
        self.refs = [0] * num_pages
        """For each page, the number of tables that name it. To read only."""
        self.num_shared = 0
        """Pages that more than one table names."""
        self.num_kept = 0
        """Free pages that are kept for their text."""
        self._blank = list(range(num_pages - 1, -1, -1))
        # Kept pages are linked in a ring, which an entry without a page closes. The links are lists: an
        # OrderedDict of 100,000 pages is spread over so much memory that each page costs a cache miss or two.
        self._end = num_pages
        self._before = [num_pages] * (num_pages + 1)
        self._after = [num_pages] * (num_pages + 1)

    @property
    def num_free(self) -> int:
        """Pages that no table names, kept ones included."""
        return len(self._blank) + self.num_kept

    def kept(self) -> list[int]:
        """Return the kept pages, the one free for longest first."""
        return self._oldest(self.num_kept)

    def take(self, n: int) -> tuple[list[int], list[int]]:
        """Take the first `n` free pages; return these pages, and those among them that were kept.

        From now on one table names each of them. `n` is at most `num_free`.
        """
        start = max(0, len(self._blank) - n)
        taken = self._blank[start:]
        taken.reverse()
        del self._blank[start:]
        evicted = self._evict(n - len(taken)) if len(taken) < n else []
        taken += evicted
        for page in taken:
            self.refs[page] = 1
        return taken, evicted

    def hold(self, pages: Iterable[int]) -> None:
        """Count one more table that names these pages, which are in use or kept.

        A kept page leaves the free queue, from its middle too.
        """
        refs, before, after = self.refs, self._before, self._after
        for page in pages:
            count = refs[page]
            refs[page] = count + 1
            if not count:
                left, right = before[page], after[page]
                after[left] = right
                before[right] = left
                self.num_kept -= 1
            elif count == 1:
                self.num_shared += 1

    def release(self, pages: Iterable[int], keep: Sequence[object]) -> None:
        """Count one table less that names these pages.

        A page that no table names is free. The page is kept if `keep[page]` is not None, else it goes to the
        queue's head.
        """
        refs, blank, before, after, end = self.refs, self._blank, self._before, self._after, self._end
        for page in pages:
            count = refs[page] - 1
            refs[page] = count
            if not count:
                if keep[page] is None:
                    blank.append(page)
                else:
                    last = before[end]
                    after[last] = before[end] = page
                    before[page] = last
                    after[page] = end
                    self.num_kept += 1
            elif count == 1:
                self.num_shared -= 1

    def blank(self, pages: Iterable[int]) -> None:
        """Forget the text of kept pages: these pages stay free, and are taken before kept ones."""
        before, after = self._before, self._after
        for page in pages:
            left, right = before[page], after[page]
            after[left], before[right] = right, left
            self._blank.append(page)
            self.num_kept -= 1

    def _evict(self, n: int) -> list[int]:
        """Take the `n` kept pages that have been free for longest out of the queue; return them."""
        pages = self._oldest(n)
        first = self._after[pages[-1]]
        self._after[self._end], self._before[first] = first, self._end
        self.num_kept -= n
        return pages

    def _oldest(self, n: int) -> list[int]:
        """Return the `n` kept pages that have been free for longest."""
        pages, page, after = [], self._end, self._after
        for _ in range(n):
            page = after[page]
            pages.append(page)
        return pages
