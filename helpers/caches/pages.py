"""What an engine asks of a cache in pages, whatever the pages hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from helpers.caches.page_pool import Offer, OutOfPages, PagePool
from helpers.caches.request_pages import num_pages_of


class Pages:
    """The one door between an engine and a paged cache: a scheduler knows requests and this, and never tensors.

    `PagedKVCache` is one with keys and values, `helpers.simulation` has one on paper. A cache that stores its pages in another way
    (quantised, or split over devices) inherits this and serves the same engine. Sizes are in pages or tokens, as named.
    A request is known by its name. Errors are those of `PagePool`; a refusal changes nothing.
    """

    def __init__(self, pool: PagePool):
        """Keep the accounts in `pool`, which belongs to this cache alone."""
        self.pool = pool

    @property
    def capacity(self) -> int:
        """Tokens that all pages hold together."""
        return self.pool.num_pages * self.pool.page_size

    @property
    def page_size(self) -> int:
        """Slots of a page."""
        return self.pool.page_size

    @property
    def used_pages(self) -> int:
        """Pages that requests hold."""
        return self.pool.num_used

    @property
    def free_pages(self) -> int:
        """Pages that could be taken now, cached ones included."""
        return self.pool.num_free

    def length(self, request_id: Hashable) -> int:
        """Return the tokens of a request that the cache holds."""
        return self.pool.length(request_id)

    def offer(self, tokens: Sequence[int], salt: Hashable = None) -> Offer:
        """Return what the cache can give a text now: how much of it is cached, and how many pages the rest needs."""
        return self.pool.offer(tokens, salt)

    def renewed(self, offer: Offer) -> Offer:
        """Return the offer if it is still true, else what the cache can give its text now; the text is not packed again."""
        return self.pool.renewed(offer)

    def fits(self, offer: Offer, freed: Iterable[Hashable] = (), owed: int = 0) -> bool:
        """Return whether an offer's pages and `owed` more are free, or would be if the requests `freed` were."""
        return self.pool.fits(offer, freed, owed)

    def refusal(self, request_id: Hashable, offer: Offer) -> OutOfPages:
        """Return the error that says how many pages a request lacks."""
        return OutOfPages(request_id, offer.num_needed, self.pool.num_free, self.pool.num_pages)

    def owed_pages(self, num_tokens: int, num_held: int) -> int:
        """Return the pages that a request of `num_tokens` known tokens has still to take, `num_held` of them having pages."""
        size = self.pool.page_size
        return num_pages_of(num_tokens, size) - num_pages_of(num_held, size)

    def begin(self, request_id: Hashable, offer: Offer) -> int:
        """Begin a request with an offer; return how many of its tokens are cached."""
        return self.pool.redeem(request_id, offer)

    def can_reserve(self, request_id: Hashable, num_tokens: int, freed: Sequence[Hashable] = ()) -> bool:
        """Return whether `reserve` of so many tokens would find its pages, if the requests `freed` were freed first."""
        return self.pool.can_append(request_id, num_tokens, freed)

    def reserve(self, request_id: Hashable, tokens: Sequence[int]) -> None:
        """Take pages for tokens that the next pass will bring. Raises OutOfPages before anything changes."""
        raise NotImplementedError

    def fork(self, parent_id: Hashable, child_id: Hashable) -> None:
        """Begin a request with all of its parent's tokens, sharing the pages; the first to write into a shared one copies it."""
        self.pool.fork(parent_id, child_id)

    def free_request(self, request_id: Hashable) -> None:
        """End a request; full pages stay cached until their room is needed. Raises ValueError for an unknown request."""
        self.pool.free(request_id)

    def abandon(self) -> None:
        """Give up the pass that was reserved for: its tokens are taken back."""
        raise NotImplementedError

    def take_back(self, most: Mapping[Hashable, int]) -> dict[Hashable, int]:
        """Give up the pass, and keep at most so many tokens of each request; return how many each has now."""
        self.abandon()
        for name, length in most.items():
            if self.pool.length(name) > length:
                self.pool.truncate(name, length)
        return {name: self.pool.length(name) for name in most}
