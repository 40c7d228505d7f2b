"""What an engine asks of a cache in pages, whatever the pages hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from helpers.caches.page_pool import Offer, OutOfPages, PagePool
from helpers.caches.request_pages import num_pages_of


class Pages:
    """The one door between an engine and a paged cache: a scheduler knows requests and `Pages`, no tensors.

    `PagedKVCache` is a subclass with keys and values. `helpers.simulation` has a subclass without tensors. A
    cache that stores pages in another way (quantised, or split over devices) inherits `Pages` and serves the
    same engine.

    Sizes are in pages or tokens, as named. A request is known by its name. Errors are those of `PagePool`; a
    refusal changes nothing.
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
        """Return the number of a request's tokens that the cache holds."""
        return self.pool.length(request_id)

    def offer(self, tokens: Sequence[int], salt: Hashable = None) -> Offer:
        """Return what the cache can give a text now: its cached tokens, and the pages that the rest needs."""
        return self.pool.offer(tokens, salt)

    def renewed(self, offer: Offer) -> Offer:
        """Return the offer if it is still true, else what the cache can give its text now.

        The text is not packed again.
        """
        return self.pool.renewed(offer)

    def fits(self, offer: Offer, freed: Iterable[Hashable] = (), owed: int = 0) -> bool:
        """Return whether the pages of an offer and `owed` more are free, or would be once `freed` is freed.

        `freed` names requests.
        """
        return self.pool.fits(offer, freed, owed)

    def refusal(self, request_id: Hashable, offer: Offer) -> OutOfPages:
        """Return the error that says how many pages a request lacks."""
        return OutOfPages(request_id, offer.num_needed, self.pool.num_free, self.pool.num_pages)

    def owed_pages(self, num_tokens: int, num_held: int) -> int:
        """Return the pages that a request has still to take.

        The request has `num_tokens` known tokens; `num_held` of them have pages already.
        """
        size = self.pool.page_size
        return num_pages_of(num_tokens, size) - num_pages_of(num_held, size)

    def begin(self, request_id: Hashable, offer: Offer, again: bool = False) -> int:
        """Begin a request with an offer; return how many of its tokens are cached.

        A request that begins `again` finds its own text: that is no hit of the pool's statistics.
        """
        return self.pool.redeem(request_id, offer, again)

    def can_reserve(self, request_id: Hashable, num_tokens: int, freed: Sequence[Hashable] = ()) -> bool:
        """Return whether `reserve` would find pages for so many tokens, once `freed` is freed.

        `freed` names requests.
        """
        return self.pool.can_append(request_id, num_tokens, freed)

    def reserve(self, request_id: Hashable, tokens: Sequence[int]) -> None:
        """Take pages for tokens that the next pass will bring. Raises OutOfPages before anything changes."""
        raise NotImplementedError

    def reserve_in_turn(self, texts: Sequence[tuple[Hashable, Sequence[int]]]) -> None:
        """Take pages for several passes: each pass brings the next token of each request.

        `texts` are names and equally many tokens. Raises OutOfPages at the first token that finds no page.
        """
        for tokens in zip(*(text for _, text in texts), strict=True):
            for (name, _), token in zip(texts, tokens, strict=True):
                self.reserve(name, [token])

    def fork(self, parent_id: Hashable, child_id: Hashable) -> None:
        """Begin a request with all tokens of its parent, sharing the pages.

        The first of the two to write into a shared page copies that page.
        """
        self.pool.fork(parent_id, child_id)

    def free_request(self, request_id: Hashable) -> None:
        """End a request. Raises ValueError for an unknown request.

        Its full pages stay cached until another text needs them.
        """
        self.pool.free(request_id)

    def abandon(self) -> None:
        """Give up the pass that pages were reserved for, and take its tokens back."""
        raise NotImplementedError

    def take_back(self, most: Mapping[Hashable, int]) -> dict[Hashable, int]:
        """Give up the pass; return how many tokens each of the requests in `most` has now.

        `most` gives, for each request, the number of tokens that may stay at most.
        """
        self.abandon()
        for name, length in most.items():
            if self.pool.length(name) > length:
                self.pool.truncate(name, length)
        return {name: self.pool.length(name) for name in most}
