"""What a paged cache can give the waiting requests: one look-up for each request and state of the cache."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from helpers.caches.page_pool import Offer
from helpers.caches.pages import Pages
from helpers.engine.request import RequestState


@dataclass(frozen=True)
class Admission:
    """What must be free, besides the pages of its whole text, before a waiting request is admitted."""

    owed: bool = True
    """The pages that running prompts have still to take."""
    watermark: float = 0.0
    """A share of all pages, kept for answers that grow; not asked for when no request runs."""

    def __post_init__(self) -> None:
        if not 0 <= self.watermark < 1:
            raise ValueError(f"the watermark is a share from 0 to below 1, got {self.watermark}")


class Offers:
    """Keep the offers to waiting requests.

    A text is packed once, and looked up again only after the cache has changed.
    """

    def __init__(self, pages: Pages):
        """Begin without an offer."""
        self._pages = pages
        self._offers: dict[Hashable, Offer] = {}

    def to(self, state: RequestState) -> Offer:
        """Return what the cache can give a waiting request now."""
        offer = self._offers.get(state.name)
        if offer is None:
            offer = self._pages.offer(state.text, state.request.salt)
        else:
            offer = self._pages.renewed(offer)
        self._offers[state.name] = offer
        return offer

    def cached_tokens(self, state: RequestState) -> int:
        """Return how many tokens of a waiting request's text are cached now."""
        return self.to(state).num_cached

    def forget(self, state: RequestState) -> None:
        """Drop the offer to a request that no longer waits."""
        self._offers.pop(state.name, None)
