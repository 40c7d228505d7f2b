"""A fixed pool of pages: who holds which page, what may be shared, what must be copied. No tensors.

Block tables and copy-on-write are PagedAttention's (Kwon et al., arXiv:2309.06180), which calls a page a block.
"""

from __future__ import annotations

from collections.abc import Hashable, KeysView, Sequence
from dataclasses import dataclass, replace

from helpers.caches.packed_text import first_tokens, packed, root
from helpers.caches.page_allocator import PageAllocator
from helpers.caches.page_index import PageIndex

RequestId = Hashable


class OutOfPages(ValueError):
    """A request needs more pages than are free. Nothing has changed."""

    def __init__(self, request_id: RequestId, needed: int, free: int, num_pages: int):
        super().__init__(
            f"request {request_id!r} needs {needed} more pages, {free} of the pool's {num_pages} are free"
        )
        self.needed, self.free = needed, free


@dataclass(frozen=True)
class PoolStats:
    """What a pool holds now, in pages unless another unit is named, and what it has done so far."""

    used: int
    """Pages in at least one table."""
    free: int
    """Pages in no table, cached ones included."""
    cached: int
    """Free pages that still hold a text which a prompt may hit."""
    shared: int
    """Pages in more than one table."""
    wasted_slots: int
    """Slots of used pages that hold no request's token."""
    peak_used: int
    """The most pages ever used at once."""
    hit_tokens: int
    """Tokens that admitted prompts found cached, summed."""
    looked_up_tokens: int
    """Tokens of admitted prompts, summed."""
    evictions: int
    """Cached pages taken for something else."""
    copies: int
    """Shared pages copied before a write."""


@dataclass(slots=True, eq=False)
class _Request:
    """One request's place in the pool."""

    name: RequestId
    table: list[int]
    root: Hashable  # its salt: what stands before the first token
    number: Hashable  # of the text in its full pages, as far as its tokens are known
    tail: bytes | None = b""  # the known tokens after those pages; None once some are anonymous
    length: int = 0
    written: int = 0  # tokens that finished steps have written
    hits: int = 0  # leading pages among which another request may have some yet to write


class PagePool:
    """`num_pages` pages of `page_size` slots, handed to requests and shared between them. Knows token ids, not tensors.

    A request begins with `admit`, which finds what is cached of its prompt; `append` makes room for the tokens after
    that, step by step; `free` ends it. A token's slot is `page * page_size + offset`.

    **A step**: `append` each request's new tokens and make the copies it asks for; compute; then `confirm` all these
    requests in one call. A page gets its key when it fills up on paper, in `append`, so that a prompt admitted later in the
    same step shares it already. That is sound only if each layer writes the keys and values of all rows before any row
    attends. Until `confirm` such a page is *pending*. If the step fails, `rollback`. Whatever takes tokens back (`rollback`,
    `truncate`, `free`) withdraws the keys of pending pages among them, and takes requests that counted on such a page
    back to where it begins: no page with a key ever stays unwritten.

    **Writing** happens only in pages that one table names and that have no key: `append` copies a shared partial page
    first, and withdraws the key of a page of its own that will be overwritten after a `truncate`.

    Unknown requests, and one admitted twice, are refused with ValueError. Refusals change nothing.
    """

    def __init__(self, num_pages: int, page_size: int = 16, sharing: bool = True):
        """Without `sharing` no prompt hits; `fork` shares all the same. Raises ValueError for a size under 1."""
        if num_pages < 1 or page_size < 1:
            raise ValueError(f"sizes must be 1 or more, got {num_pages} pages of {page_size} slots")
        self.num_pages, self.page_size, self.sharing = num_pages, page_size, sharing
        self.last_taken: list[int] = []
        """Pages that the latest `append` took from the free queue; what stood in them is void."""
        self._stock = PageAllocator(num_pages)
        self._index = PageIndex(num_pages, page_size)
        self._requests: dict[RequestId, _Request] = {}
        self._pending: dict[int, _Request] = {}  # page with a key: who has yet to write it
        self._peak_used = self._hit_tokens = self._looked_up_tokens = self._evictions = self._copies = 0

    @property
    def num_free(self) -> int:
        """Pages that `append` could take now, cached ones included."""
        return self._stock.num_free

    @property
    def num_used(self) -> int:
        """Pages in at least one table."""
        return self.num_pages - self._stock.num_free

    @property
    def requests(self) -> KeysView[RequestId]:
        """Names of the admitted requests, oldest first: a live view."""
        return self._requests.keys()

    def stats(self) -> PoolStats:
        """Counts of this moment, and totals since the pool was made."""
        return PoolStats(
            used=self.num_used,
            free=self.num_free,
            cached=self._stock.num_kept,
            shared=self._stock.num_shared,
            wasted_slots=self._wasted_slots(),
            peak_used=self._peak_used,
            hit_tokens=self._hit_tokens,
            looked_up_tokens=self._looked_up_tokens,
            evictions=self._evictions,
            copies=self._copies,
        )

    def refs(self, page: int) -> int:
        """The tables that name a page. Raises ValueError for a page that is not there."""
        if not 0 <= page < self.num_pages:
            raise ValueError(f"there are pages 0 to {self.num_pages - 1}, got {page}")
        return self._stock.refs[page]

    def cached_pages(self) -> list[int]:
        """The free pages that still hold a text, the one to be taken first before the others."""
        return self._stock.kept()

    def length(self, request_id: RequestId) -> int:
        """Tokens of a request."""
        return self._known(request_id).length

    def table(self, request_id: RequestId) -> Sequence[int]:
        """A request's pages in the order of its tokens: `ceil(length / page_size)` of them."""
        return tuple(self._known(request_id).table)

    def slots(self, request_id: RequestId, start: int, stop: int) -> list[int]:
        """Where the tokens `start:stop` of a request live. Raises ValueError for a range beyond its length."""
        request, size = self._known(request_id), self.page_size
        if not 0 <= start <= stop <= request.length:
            raise ValueError(
                f"request {request_id!r} has {request.length} tokens, got the range {start}:{stop}"
            )
        first = start // size
        pages = request.table[first : _ceil_div(stop, size)]
        slots = [slot for page in pages for slot in range(page * size, page * size + size)]
        return slots[start - first * size : stop - first * size]

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Tokens of a prompt that full cached pages hold: a multiple of the page size. Changes nothing.

        At most all but the last token, because a model must compute that one to say what follows; a cached prompt of
        whole pages therefore computes its last page again. `salt` keeps tenants apart: only prompts of equal salts share.
        """
        return len(self._match(tokens, root(salt))[0]) * self.page_size

    def pages_to_admit(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Pages that would leave the free queue if this prompt were admitted and appended whole. Changes nothing."""
        pages = self._match(tokens, root(salt))[0]
        return _ceil_div(len(tokens), self.page_size) - sum(self._stock.refs[page] > 0 for page in pages)

    def admit(self, request_id: RequestId, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Begins a request and gives the tokens of its prompt that are cached, as `cached_tokens` does.

        Its table starts with their pages. No other page is taken: `append` the rest of the prompt, `tokens[cached:]`, at
        once or in chunks. Raises ValueError for a request that is here already, tokens that are no unsigned
        32-bit numbers, and a salt that has no hash.
        """
        self._check_new(request_id)
        start = root(salt)
        pages, number = self._match(tokens, start)
        cached, hits = len(pages) * self.page_size, len(pages)
        self._stock.hold(pages)
        self._requests[request_id] = _Request(request_id, pages, start, number, b"", cached, cached, hits)
        self._peak_used = max(self._peak_used, self.num_used)
        self._hit_tokens += cached
        self._looked_up_tokens += len(tokens)
        return cached

    def pages_needed(self, request_id: RequestId, num_tokens: int) -> int:
        """Free pages that `append` of so many tokens would take now, a copy's included. Raises ValueError as `append` does."""
        request = self._known(request_id)
        if num_tokens < 0:
            raise ValueError(f"the number of tokens must be 0 or more, got {num_tokens}")
        pages = _ceil_div(request.length + num_tokens, self.page_size) - len(request.table)
        if num_tokens and request.length % self.page_size and self._stock.refs[request.table[-1]] > 1:
            if request.table[-1] in self._pending:
                raise ValueError(
                    f"request {request_id!r} would copy a page before it is written; confirm that first"
                )
            return pages + 1
        return pages

    def can_append(self, request_id: RequestId, num_tokens: int) -> bool:
        """Whether `append` of so many tokens would find its pages. Raises ValueError as `append` does."""
        return self.pages_needed(request_id, num_tokens) <= self.num_free

    def append(self, request_id: RequestId, tokens: Sequence[int] | int) -> list[tuple[int, int]]:
        """Extends a request; gives the copies `(from page, to page)` to make at once, before anything is written.

        `tokens` are ids, or a number of anonymous tokens; from the first anonymous one on, a request's pages are never
        shared by content. `rollback` does not take a copy back, so make it even if the step is given up. Raises OutOfPages,
        and ValueError for a negative number, tokens that are no unsigned 32-bit numbers, or a copy of a page yet to be written.
        """
        request = self._known(request_id)
        num_tokens = tokens if isinstance(tokens, int) else len(tokens)
        text = packed(tokens) if self.sharing and not isinstance(tokens, int) else None
        needed = self.pages_needed(request_id, num_tokens)
        if needed > self.num_free:  # refused before anything changes
            raise OutOfPages(request_id, needed, self.num_free, self.num_pages)
        self.last_taken = taken = self._take(needed) if needed else []
        # A partly filled last page must be the request's own: the first page taken replaces one that others name, too.
        copies = self._own_tail(request, taken) if num_tokens and request.length % self.page_size else []
        full = request.length // self.page_size
        request.table += taken[len(copies) :]
        request.length += num_tokens
        # Pages that are full now are known by their text, as long as all of it is known.
        if text is not None and request.tail is not None:
            self._fill(request, full, request.tail + text)
        elif num_tokens:
            request.tail = None
        return copies

    def confirm(self, *request_ids: RequestId) -> None:
        """States that a step has written all tokens of these requests: their pages are pending no longer.

        Name all requests of the step in one call. Raises ValueError, before anything changes, when one of them counts on
        a page that a request not named has yet to write.
        """
        requests = {self._known(request_id) for request_id in request_ids}
        for request in requests if self._pending else ():
            for writer in self._awaited(request) - requests:
                raise ValueError(
                    f"request {request.name!r} counts on pages that {writer.name!r} has yet to write; "
                    "confirm them together"
                )
        for request in requests:
            if self._pending:
                start, stop = request.written // self.page_size, request.length // self.page_size
                for page in request.table[start:stop]:
                    self._pending.pop(page, None)
            request.written, request.hits = request.length, 0

    def rollback(self, *request_ids: RequestId) -> list[RequestId]:
        """Takes back what was appended to these requests since their last `confirm`, for a step that failed.

        Gives the other requests that lost tokens too, because they counted on pages that now stay unwritten. Ask for
        `length` afterwards: a request named here may have lost more than it appended, if it hit such a page.
        """
        requests = [self._known(request_id) for request_id in request_ids]
        lost = {other for request in requests for other in self._cut(request, request.written)}
        return [request.name for request in lost.difference(requests)]

    def truncate(self, request_id: RequestId, length: int) -> list[RequestId]:
        """Takes back tokens at the end until `length` remain; gives the other requests that lost tokens, as `rollback` does.

        Pages beyond go back, and written ones stay cached. Raises ValueError for a length below 0 or above the present one.
        """
        request = self._known(request_id)
        if not 0 <= length <= request.length:
            raise ValueError(f"request {request_id!r} has {request.length} tokens, cannot keep {length}")
        return [other.name for other in self._cut(request, length)]

    def fork(self, parent_id: RequestId, child_id: RequestId) -> None:
        """Begins a request with its parent's tokens, sharing every page. Who first writes into a shared partial page copies it.

        Raises ValueError for a parent with tokens that no finished step has written, and a child that is here already.
        """
        parent = self._known(parent_id)
        self._check_new(child_id)
        if parent.written < parent.length or self._awaited(parent):
            raise ValueError(f"request {parent_id!r} has unwritten tokens; confirm its step before a fork")
        self._stock.hold(parent.table)
        self._requests[child_id] = replace(parent, name=child_id, table=parent.table[:])

    def free(self, request_id: RequestId) -> list[RequestId]:
        """Ends a request; gives the other requests that lost tokens, as `rollback` does.

        Its pages go back in reverse order, so that the end of a text is evicted before its beginning: pages with a key
        to the tail of the free queue, where they stay cached until they are taken; others to its head.
        """
        lost = self._cut(self._known(request_id), 0)
        del self._requests[request_id]
        return [other.name for other in lost]

    def _known(self, request_id: RequestId) -> _Request:
        """The request of that name; ValueError if there is none."""
        request = self._requests.get(request_id)
        if request is None:
            raise ValueError(f"no request {request_id!r} here: it was never admitted, or is freed already")
        return request

    def _check_new(self, request_id: RequestId) -> None:
        """Raises ValueError if there is a request of that name."""
        if request_id in self._requests:
            raise ValueError(f"request {request_id!r} is here already; free it first")

    def _match(self, tokens: Sequence[int], start: Hashable) -> tuple[list[int], Hashable]:
        """The cached pages that a prompt starts with, its last token left out; the number of their text."""
        whole = (len(tokens) - 1) // self.page_size * self.page_size if self.sharing else 0
        return self._index.match(packed(tokens[:whole]), start) if whole > 0 else ([], start)

    def _take(self, n: int) -> list[int]:
        """That many pages from the free queue, without keys."""
        taken, evicted = self._stock.take(n)
        for page in evicted:
            self._index.drop(page)
        self._evictions += len(evicted)
        self._peak_used = max(self._peak_used, self.num_used)
        return taken

    def _own_tail(self, request: _Request, taken: list[int]) -> list[tuple[int, int]]:
        """Makes the request's partial page its own to write; the copy that this takes, if any, into the first page taken."""
        page = request.table[-1]
        if self._stock.refs[page] == 1:
            self._index.drop(page)
            return []
        self._stock.release((page,), self._index.tokens_of)
        self._copies += 1
        request.table[-1] = taken[0]
        return [(page, taken[0])]

    def _fill(self, request: _Request, start: int, text: bytes) -> None:
        """Enters the pages from index `start` on that the text after them fills up; the rest of it is the new tail."""
        full = request.length // self.page_size
        whole = first_tokens(text, (full - start) * self.page_size)
        if full > start:
            new, request.number = self._index.enter(request.table, start, request.number, whole)
            self._pending.update(dict.fromkeys(new, request))
        request.tail = text[len(whole) :]

    def _awaited(self, request: _Request) -> set[_Request]:
        """The other requests that have yet to write pages which this one hit."""
        if not self._pending:
            return set()
        return {self._pending[page] for page in request.table[: request.hits] if page in self._pending}

    def _cut(self, request: _Request, length: int) -> set[_Request]:
        """Shortens a request and those that counted on pages which it now leaves unwritten: the latter."""
        todo, lost = [(request, length)], set()
        while todo:
            victim, length = todo.pop()
            if length < victim.length:
                victim.number, victim.tail = self._text_at(victim, length)
                if self._pending:
                    todo += self._withdraw(victim, length)
                self._shorten(victim, length)
                lost.add(victim)
        return lost - {request}

    def _text_at(self, request: _Request, length: int) -> tuple[Hashable, bytes | None]:
        """The number and tail that a request has at a length up to its own."""
        full, rest = divmod(length, self.page_size)
        if full < len(request.table) and (text := self._index.text(request.table[full])):
            return text[0], first_tokens(text[1], rest)
        if full == request.length // self.page_size and request.tail is not None:
            return request.number, first_tokens(request.tail, rest)
        if not length:
            return request.root, b""
        if rest or not self._index.text(request.table[full - 1]):
            return request.number, None
        return self._index.number(request.table[full - 1]), b""

    def _withdraw(self, request: _Request, length: int) -> list[tuple[_Request, int]]:
        """Drops the keys of pages beyond `length` that stay unwritten; who else holds such a page, and the length before it."""
        holders: list[tuple[_Request, int]] = []
        start = max(length, request.written) // self.page_size
        for i in range(start, request.length // self.page_size):
            page = request.table[i]
            if self._pending.pop(page, None) is None:
                continue
            self._index.drop(page)
            if self._stock.refs[page] > 1:  # shared by content, so it stands at the same place in each table
                others = [o for o in self._requests.values() if page in o.table[i : i + 1]]
                holders += [(other, i * self.page_size) for other in others if other is not request]
        return holders

    def _shorten(self, request: _Request, length: int) -> None:
        """Cuts a request's table and counts; pages beyond go back, last first."""
        kept = _ceil_div(length, self.page_size)
        pages = request.table[kept:]
        pages.reverse()
        if self._index.twins:
            self._part_with_twins(request, pages)
        self._stock.release(pages, self._index.tokens_of)
        del request.table[kept:]
        request.length, request.written = length, min(length, request.written)

    def _part_with_twins(self, request: _Request, leaving: list[int]) -> None:
        """Sees to it that the text of twins among these pages stays cached; `leaving` may become longer.

        Before a twin leaves the page that has its key, used just now; if there is none, the twin gets the key.
        """
        twins, refs = self._index.twins, self._stock.refs
        for twin in [page for page in leaving if page in twins and refs[page] == 1]:
            found = self._index.find(twins[twin])
            if found is None and request.table.index(twin) < request.written // self.page_size:
                self._index.promote(twin)
                continue
            self._index.drop(twin)
            if found is not None and not refs[found]:
                self._stock.hold((found,))
                leaving.insert(leaving.index(twin), found)

    def _wasted_slots(self) -> int:
        """Slots of used pages that hold no request's token."""
        fills: dict[int, list[int]] = {}
        for request in self._requests.values():
            if rest := request.length % self.page_size:
                fills.setdefault(request.table[-1], []).append(rest)
        size, refs = self.page_size, self._stock.refs
        # A page that more tables name than end in it is full in one of them.
        return sum(size - max(fill) for page, fill in fills.items() if len(fill) == refs[page])


def _ceil_div(a: int, b: int) -> int:
    """`a / b` rounded up."""
    return -(-a // b)
