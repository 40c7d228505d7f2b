"""A fixed pool of pages, without tensors: which request holds which page, what is shared, what is copied.

Block tables and copy-on-write are PagedAttention's (Kwon et al., arXiv:2309.06180), which calls a page a
block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, KeysView, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from helpers.caches.packed_text import first_tokens, packed, root, whole_number
from helpers.caches.page_allocator import PageAllocator
from helpers.caches.page_index import PageIndex
from helpers.caches.request_pages import RequestPages, num_pages_of

RequestId = Hashable


class OutOfPages(ValueError):
    """More pages are needed than are free. Nothing has changed."""

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
    """Tokens that admitted prompts found cached, summed, without those of requests that began again."""
    looked_up_tokens: int
    """Tokens of admitted prompts, summed, without those of requests that began again."""
    evictions: int
    """Cached pages taken for something else."""
    copies: int
    """Shared pages copied before a write."""


class Offer(NamedTuple):
    """What a pool can give a text now. `PagePool.redeem` begins a request with it.

    An offer is true for as long as the pool has not changed.
    """

    text: bytes
    """The packed tokens, all of them."""
    salt_key: Hashable
    pages: Sequence[int]
    """Cached pages that the text starts with."""
    prefix_id: Hashable
    """The index's id of the text in those pages."""
    num_tokens: int
    """Tokens of the text."""
    num_cached: int
    """Tokens in those pages."""
    num_needed: int
    """Pages that leave the free queue when the text is admitted and appended whole."""
    version: int
    """The state of the pool that the offer is true of."""


class PagePool:
    """`num_pages` pages of `page_size` slots, handed to requests and shared between them. No tensors.

    A request begins with `admit`, which finds the cached beginning of its prompt. `append` takes pages for
    the tokens after that, step by step. `free` ends the request. A token's slot is `page * page_size +
    offset`.

    **A step**: `append` the new tokens of each request and make the copies that `append` returns. Compute.
    Then `confirm` all these requests in one call; if the step fails, `rollback`. A full page gets its key in
    `append`, before it is written. So a prompt that is admitted later in the same step shares the page
    already. That is sound only if each layer writes the keys and values of all sequences before any sequence
    attends.

    **Pending**: a page that has its key and is yet to be written. Three calls take tokens back: `rollback`,
    `truncate` and `free`. They withdraw the keys of the pending pages among those tokens. A request that
    counted on such a page is cut to the page's beginning. So no page with a key stays unwritten.

    **Writing** happens only in pages that one table names and that have no key. `append` copies a shared
    partial page first. When `append` overwrites a page after a `truncate`, it withdraws the page's key.

    **Duplicates**: two requests that compute the same page at the same time have a page each. One page is
    found, the other is its duplicate. When the found page is taken for another text, a duplicate takes its
    key over. So no text is lost while a request holds it, and every cached page can be found.

    Unknown requests, and a request admitted twice, are refused with ValueError. Refusals change nothing.
    """

    def __init__(self, num_pages: int, page_size: int = 16, sharing: bool = True):
        """Make a pool of free pages. Without `sharing` no prompt hits; `fork` shares all the same.

        Raises ValueError for a size under 1.
        """
        if num_pages < 1 or page_size < 1:
            raise ValueError(f"sizes must be 1 or more, got {num_pages} pages of {page_size} slots")
        self.num_pages, self.page_size, self.sharing = num_pages, page_size, sharing
        self._peak_used = self._hit_tokens = self._looked_up_tokens = self._evictions = self._copies = 0
        self._version = 0  # changes with the index and the free queue, on which offers depend
        self._requests: dict[RequestId, RequestPages] = {}
        self._forget_everything()

    @property
    def num_free(self) -> int:
        """Pages that `append` could take now, cached ones included."""
        return self._allocator.num_free

    @property
    def num_used(self) -> int:
        """Pages in at least one table."""
        return self.num_pages - self._allocator.num_free

    @property
    def version(self) -> int:
        """A number that changes when offers may no longer be true."""
        return self._version

    @property
    def requests(self) -> KeysView[RequestId]:
        """Names of the admitted requests, oldest first: a live view."""
        return self._requests.keys()

    def stats(self) -> PoolStats:
        """Return counts of this moment, and totals since the pool was made."""
        return PoolStats(
            used=self.num_used,
            free=self.num_free,
            cached=self._allocator.num_kept,
            shared=self._allocator.num_shared,
            wasted_slots=self._wasted_slots(),
            peak_used=self._peak_used,
            hit_tokens=self._hit_tokens,
            looked_up_tokens=self._looked_up_tokens,
            evictions=self._evictions,
            copies=self._copies,
        )

    @property
    def looked_up(self) -> tuple[int, int]:
        """Tokens that were looked up since the pool was made, and those of them that were cached."""
        return self._looked_up_tokens, self._hit_tokens

    def refs(self, page: int) -> int:
        """Return the number of tables that name a page. Raises ValueError for a page that is not there."""
        if not 0 <= page < self.num_pages:
            raise ValueError(f"there are pages 0 to {self.num_pages - 1}, got {page}")
        return self._allocator.refs[page]

    def cached_pages(self) -> list[int]:
        """Return the free pages that still hold a text, in the order in which they will be taken."""
        return self._allocator.kept()

    def length(self, request_id: RequestId) -> int:
        """Return the tokens of a request."""
        return self._known(request_id).length

    def table(self, request_id: RequestId) -> Sequence[int]:
        """Return a request's pages in the order of its tokens: `ceil(length / page_size)` of them."""
        return tuple(self._known(request_id).table)

    def slots(self, request_id: RequestId, start: int, stop: int) -> list[int]:
        """Return the slots of a request's tokens `start:stop`.

        Raises ValueError for a range beyond its length.
        """
        request = self._known(request_id)
        if not 0 <= start <= stop <= request.length:
            raise ValueError(
                f"request {request_id!r} has {request.length} tokens, got the range {start}:{stop}"
            )
        return request.slots(start, stop, self.page_size)

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return how many tokens of a prompt full cached pages hold: a multiple of the page size.

        Changes nothing. The last token never counts, because a model must compute it to say what follows. So
        a cached prompt of whole pages computes its last page again. `salt` keeps tenants apart: only prompts
        of equal salts share.
        """
        return len(self._match(packed(tokens), len(tokens), root(salt))[0]) * self.page_size

    def pages_to_admit(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the pages that would leave the free queue, were this prompt admitted and appended whole."""
        return self.offer(tokens, salt).num_needed

    def offer(self, tokens: Sequence[int], salt: Hashable = None) -> Offer:
        """Return what the pool can give a text now. Changes nothing.

        Raises ValueError for tokens that are no unsigned 32-bit numbers, and a salt that has no hash.
        """
        return self._offer(packed(tokens), len(tokens), root(salt))

    def renewed(self, offer: Offer) -> Offer:
        """Return the same offer if it is still true, else what the pool can give its text now."""
        if offer.version == self._version:
            return offer
        return self._offer(offer.text, offer.num_tokens, offer.salt_key)

    def fits(self, offer: Offer, freed: Iterable[RequestId] = (), owed: int = 0) -> bool:
        """Return whether enough pages are free for a text that `offer` is true of, and for `owed` pages more.

        Counts the pages that would be free if the requests `freed` were freed. Raises ValueError for an
        unknown one. Changes nothing.
        """
        gone = Counter(page for name in freed for page in self._known(name).table)
        if not gone:
            return offer.num_needed + owed <= self.num_free
        refs = self._allocator.refs
        kept = sum(refs[page] > gone[page] for page in offer.pages)
        room = self.num_free + sum(refs[page] == count for page, count in gone.items())
        return num_pages_of(offer.num_tokens, self.page_size) - kept + owed <= room

    def admit(self, request_id: RequestId, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Begin a request; return how many tokens of its prompt are cached, as `cached_tokens` does.

        Its table starts with their pages. No other page is taken: `append` the rest of the prompt,
        `tokens[cached:]`, at once or in chunks. Raises ValueError for a request that is here already, tokens
        that are no unsigned 32-bit numbers, and a salt that has no hash.
        """
        self._check_new(request_id)
        salt_key = root(salt)
        pages, prefix_id = self._match(packed(tokens), len(tokens), salt_key)
        return self._begin(request_id, pages, prefix_id, salt_key, len(tokens))

    def redeem(self, request_id: RequestId, offer: Offer, again: bool = False) -> int:
        """Begin a request with what `offer` found, as `admit` does, without a second look-up.

        A request that begins `again` may find text that it computed itself, so it counts neither in
        `hit_tokens` nor in `looked_up_tokens`.
        Raises ValueError for a request that is here already, and when the pool has changed since the offer.
        """
        self._check_new(request_id)
        if offer.version != self._version:
            raise ValueError(
                f"the pool has changed since the offer to request {request_id!r}; renew the offer"
            )
        return self._begin(
            request_id, list(offer.pages), offer.prefix_id, offer.salt_key, offer.num_tokens, not again
        )

    def pages_needed(self, request_id: RequestId, num_tokens: int, freed: Iterable[RequestId] = ()) -> int:
        """Return the free pages that `append` of so many tokens would take now, a copy's included.

        With `freed`, as if those requests were freed already. Raises ValueError as `append` does.
        """
        return self._needed(self._known(request_id), num_tokens, freed)

    def _needed(self, request: RequestPages, num_tokens: int, freed: Iterable[RequestId] = ()) -> int:
        """Return what `pages_needed` does, for a request's account."""
        if num_tokens < 0:
            raise ValueError(f"the number of tokens must be 0 or more, got {num_tokens}")
        pages = -(-(request.length + num_tokens) // self.page_size) - len(request.table)
        if not num_tokens or not request.length % self.page_size:
            return pages
        last = request.table[-1]
        others = self._allocator.refs[last] - 1
        if others and freed:
            others -= sum(last in self._known(name).table for name in freed)
        if not others:
            return pages
        if last in self._pending:
            raise ValueError(
                f"request {request.name!r} would copy a page before it is written; confirm that first"
            )
        return pages + 1

    def can_append(self, request_id: RequestId, num_tokens: int, freed: Sequence[RequestId] = ()) -> bool:
        """Return whether `append` would find pages for so many tokens, once the requests `freed` are freed.

        Raises ValueError for an unknown request and for a copy of a page that is yet to be written.
        """
        gone = Counter(page for name in freed for page in self._known(name).table)
        refs = self._allocator.refs
        room = self.num_free + sum(refs[page] == count for page, count in gone.items())
        return self.pages_needed(request_id, num_tokens, freed) <= room

    def append(self, request_id: RequestId, tokens: Sequence[int]) -> list[tuple[int, int]]:
        """Extend a request by these tokens; return the copies `(from page, to page)` to make first.

        `rollback` does not take a copy back, so make each copy even if the step is given up. Raises
        OutOfPages. Raises ValueError for tokens that are no unsigned 32-bit numbers, and for a copy of a page
        that is yet to be written.
        """
        return self._extend(self._known(request_id), packed(tokens), len(tokens))

    def append_anonymous(self, request_id: RequestId, num_tokens: int) -> list[tuple[int, int]]:
        """Extend a request by a number of tokens that are not known; return copies as `append` does.

        From the first anonymous token on, a request's pages are never shared by content. Raises OutOfPages,
        and ValueError for what is no whole number of 0 or more.
        """
        return self._extend(self._known(request_id), None, whole_number(num_tokens, "the number of tokens"))

    def confirm(self, *request_ids: RequestId) -> None:
        """State that a step has written all tokens of these requests: their pages are pending no longer.

        Name all requests of the step in one call. Raises ValueError as `check_together` does, before anything
        changes.
        """
        requests, pending, size = self.check_together(request_ids), self._pending, self.page_size
        for request in requests:
            if pending:
                for page in request.table[request.written // size : request.length // size]:
                    pending.pop(page, None)
            request.written, request.num_hit_pages = request.length, 0

    def check_together(self, request_ids: Iterable[RequestId]) -> set[RequestPages]:
        """Raise ValueError unless these requests can be one step; return their accounts, for `confirm`.

        None of them may count on a page that a request outside the step has yet to write.
        """
        requests = {self._known(request_id) for request_id in request_ids}
        for request in requests if self._pending else ():
            for writer in self._awaited(request) - requests:
                raise ValueError(
                    f"request {request.name!r} counts on pages that {writer.name!r} has yet to write; "
                    "confirm them together"
                )
        return requests

    def rollback(self, *request_ids: RequestId) -> list[RequestId]:
        """Take back what was appended to these requests since their last `confirm`, for a step that failed.

        Returns the other requests that lost tokens too, because they counted on pages that now stay
        unwritten. Ask for `length` afterwards: a request named here may have lost more than it appended, if
        it hit such a page.
        """
        requests = [self._known(request_id) for request_id in request_ids]
        lost = {other for request in requests for other in self._cut(request, request.written)}
        return [request.name for request in lost.difference(requests)]

    def truncate(self, request_id: RequestId, length: int) -> list[RequestId]:
        """Take back the last tokens until `length` remain; return the other requests that lost tokens.

        The pages after them go back, and written pages stay cached. Others lose tokens as in `rollback`.
        Raises ValueError for a length below 0 or above the present one.
        """
        request = self._known(request_id)
        if not 0 <= length <= request.length:
            raise ValueError(f"request {request_id!r} has {request.length} tokens, cannot keep {length}")
        return [other.name for other in self._cut(request, length)]

    def fork(self, parent_id: RequestId, child_id: RequestId) -> None:
        """Begin a request with its parent's tokens, sharing every page.

        The first of the two to write into a shared partial page copies it. Raises ValueError for a parent
        with tokens that no finished step has written, and for a child that is here already.
        """
        parent = self._known(parent_id)
        self._check_new(child_id)
        if parent.written < parent.length or self._awaited(parent):
            raise ValueError(f"request {parent_id!r} has unwritten tokens; confirm its step before a fork")
        self._allocator.hold(parent.table)
        self._requests[child_id] = parent.fork(child_id)
        self._version += 1

    def free(self, request_id: RequestId) -> list[RequestId]:
        """End a request; return the other requests that lost tokens, as `rollback` does.

        Its pages go back in reverse order, so that the end of a text is evicted before its beginning. Pages
        with a key go to the tail of the free queue; they stay cached until they are taken. Other pages go to
        the head of the queue.
        """
        lost = self._cut(self._known(request_id), 0)
        del self._requests[request_id]
        return [other.name for other in lost]

    def reset(self) -> None:
        """Forget every cached text, as after a change of weights; totals go on.

        Raises ValueError while a request lives.
        """
        if self._requests:
            names = ", ".join(map(repr, list(self._requests)[:3]))
            raise ValueError(f"{len(self._requests)} requests hold pages ({names}); free them before a reset")
        self._forget_everything()

    def _forget_everything(self) -> None:
        """Make all pages free and blank."""
        self._allocator = PageAllocator(self.num_pages)
        self._index = PageIndex(self.num_pages, self.page_size)
        # For each full page that is yet to be written, the request that writes it.
        self._pending: dict[int, RequestPages] = {}
        self.last_taken: list[int] = []
        """Pages that the latest `append` took from the free queue; their old content is void."""
        self._version += 1

    def _known(self, request_id: RequestId) -> RequestPages:
        """Return the request of that name; raise ValueError if there is none."""
        request = self._requests.get(request_id)
        if request is None:
            raise ValueError(f"no request {request_id!r} here: it was never admitted, or is freed already")
        return request

    def _check_new(self, request_id: RequestId) -> None:
        """Raise ValueError if there is a request of that name."""
        if request_id in self._requests:
            raise ValueError(f"request {request_id!r} is here already; free it first")

    def _match(self, text: bytes, num_tokens: int, salt_key: Hashable) -> tuple[list[int], Hashable]:
        """Return the cached pages that a packed text starts with, and the id of their text.

        The text's last token is left out.
        """
        whole = (num_tokens - 1) // self.page_size * self.page_size if self.sharing else 0
        return self._index.match(first_tokens(text, whole), salt_key) if whole > 0 else ([], salt_key)

    def _offer(self, text: bytes, num_tokens: int, salt_key: Hashable) -> Offer:
        """Return what the pool has for a packed text."""
        pages, prefix_id = self._match(text, num_tokens, salt_key)
        refs, size = self._allocator.refs, self.page_size
        needed = num_pages_of(num_tokens, size) - sum(refs[page] > 0 for page in pages)
        return Offer(text, salt_key, pages, prefix_id, num_tokens, len(pages) * size, needed, self._version)

    def _begin(
        self,
        request_id: RequestId,
        pages: list[int],
        prefix_id: Hashable,
        salt_key: Hashable,
        num_tokens: int,
        counted: bool = True,
    ) -> int:
        """Begin a request of `num_tokens` with cached pages; return the tokens that those pages hold."""
        cached = len(pages) * self.page_size
        self._allocator.hold(pages)
        self._requests[request_id] = RequestPages(
            request_id, pages, salt_key, prefix_id, cached, b"", cached, cached, len(pages)
        )
        self._version += 1
        self._peak_used = max(self._peak_used, self.num_used)
        if counted:
            self._hit_tokens += cached
            self._looked_up_tokens += num_tokens
        return cached

    def _extend(self, request: RequestPages, text: bytes | None, num_tokens: int) -> list[tuple[int, int]]:
        """Extend a request; return the copies to make. `text` is None for tokens that are not known."""
        needed = self._needed(request, num_tokens)
        if needed > self.num_free:  # refused before anything changes
            raise OutOfPages(request.name, needed, self.num_free, self.num_pages)
        self.last_taken = taken = self._take(needed) if needed else []
        # A partial last page must be the request's own. If others name it, the first page taken replaces it.
        copies = self._own_tail(request, taken) if num_tokens and request.length % self.page_size else []
        if taken:
            request.table += taken[len(copies) :]
        length, request.length = request.length, request.length + num_tokens
        if text is not None and self.sharing and request.num_known == length:
            self._fill(request, request.tail + text)
        return copies

    def _take(self, n: int) -> list[int]:
        """Return that many pages from the free queue, without keys."""
        taken, evicted = self._allocator.take(n)
        for page in evicted:
            self._index.drop(page)
        self._evictions += len(evicted)
        self._version += 1
        if self.num_used > self._peak_used:
            self._peak_used = self.num_used
        return taken

    def _own_tail(self, request: RequestPages, taken: list[int]) -> list[tuple[int, int]]:
        """Make the request's partial page its own to write; return the copy to make.

        The copy goes into the first page taken.
        """
        page = request.table[-1]
        if self._allocator.refs[page] == 1:
            if self._index.text(page) is not None:
                self._overwrite(page)
            return []
        self._allocator.release((page,), self._index.tokens_of)
        self._copies += 1
        request.table[-1] = taken[0]
        return [(page, taken[0])]

    def _overwrite(self, page: int) -> None:
        """Withdraw the key of a page that will be written again.

        The same goes for cached pages that are found only through the page's text.
        """
        found, prefix_id = self._index.tokens_of[page] is not None, self._index.prefix_id(page)
        self._version += 1
        if self._index.drop(page) is None and found and self._allocator.num_kept:
            orphans = self._index.after(prefix_id, self._allocator.kept())
            for orphan in orphans:
                self._index.drop(orphan)
            self._allocator.blank(orphans)

    def _fill(self, request: RequestPages, text: bytes) -> None:
        """Enter the pages that known tokens have filled up, under their text.

        `text` begins after the pages known so far.
        """
        start, full = request.num_known // self.page_size, request.length // self.page_size
        request.num_known = request.length
        if full > start:
            whole = first_tokens(text, (full - start) * self.page_size)
            request.prefix_id = self._index.enter(request.table, start, request.prefix_id, whole)
            for page in request.table[start:full]:
                self._pending[page] = request
            self._version += 1
            text = text[len(whole) :]
        request.tail = text

    def _awaited(self, request: RequestPages) -> set[RequestPages]:
        """Return the other requests that have yet to write pages which this one hit."""
        if not self._pending:
            return set()
        hit = request.table[: request.num_hit_pages]
        return {self._pending[page] for page in hit if page in self._pending}

    def _cut(self, request: RequestPages, length: int) -> set[RequestPages]:
        """Shorten a request; return the other requests that lost tokens.

        These requests counted on pages that the cut leaves unwritten.
        """
        lost: set[RequestPages] = set()
        todo = [(request, length)]
        self._version += 1
        while todo:
            victim, length = todo.pop()
            if length < victim.length:
                if length < victim.num_known:
                    victim.forget_text(length, self._index, self.page_size)
                if self._pending:
                    todo += self._withdraw(victim, length)
                self._shorten(victim, length)
                lost.add(victim)
        lost.discard(request)
        return lost

    def _withdraw(self, request: RequestPages, length: int) -> list[tuple[RequestPages, int]]:
        """Drop the keys of pages beyond `length` that stay unwritten; return the other requests with them.

        With each request comes its length before such a page.
        """
        holders: list[tuple[RequestPages, int]] = []
        start = max(length, request.written) // self.page_size
        for i in range(start, request.length // self.page_size):
            page = request.table[i]
            if self._pending.pop(page, None) is None:
                continue
            self._index.drop(page)
            # A page that is shared by content has the same index in each table.
            if self._allocator.refs[page] > 1:
                others = [o for o in self._requests.values() if page in o.table[i : i + 1]]
                holders += [(other, i * self.page_size) for other in others if other is not request]
        return holders

    def _shorten(self, request: RequestPages, length: int) -> None:
        """Cut a request's table and counts; pages beyond go back, last first."""
        kept = -(-length // self.page_size)
        pages = request.table[kept:]
        if pages:
            pages.reverse()
            if self._index.duplicates:
                pages = self._without_duplicates(pages)
            self._allocator.release(pages, self._index.tokens_of)
            del request.table[kept:]
        request.length = length
        if length < request.written:
            request.written = length

    def _without_duplicates(self, leaving: list[int]) -> list[int]:
        """Forget the duplicates among pages that leave; return the pages to give back.

        The found page of a duplicate's text is given back before the duplicate, if that page is free: its
        text was used now.
        """
        duplicates, refs, given_back = self._index.duplicates, self._allocator.refs, list[int]()
        for page in leaving:
            if page in duplicates and refs[page] == 1:
                found = self._index.find(duplicates[page])
                self._index.drop(page)
                if found is not None and not refs[found]:
                    self._allocator.hold((found,))
                    given_back.append(found)
            given_back.append(page)
        return given_back

    def _wasted_slots(self) -> int:
        """Return the slots of used pages that hold no request's token."""
        fills: dict[int, list[int]] = {}
        for request in self._requests.values():
            if rest := request.length % self.page_size:
                fills.setdefault(request.table[-1], []).append(rest)
        size, refs = self.page_size, self._allocator.refs
        # A page that more tables name than end in it is full in one of them.
        return sum(size - max(fill) for page, fill in fills.items() if len(fill) == refs[page])
