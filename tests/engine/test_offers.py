"""Offers: one look-up for one state of the pool, and none for a request that was forgotten."""

import pytest

from helpers.engine import Offers
from helpers.simulation import PaperPages
from tests.engine.support import state


class CountedPages(PaperPages):
    """Count how often a text is looked up: by `offer`, or by `renewed` where the offer was no longer true."""

    looked_up = 0

    def offer(self, tokens, salt=None):
        self.looked_up += 1
        return super().offer(tokens, salt)

    def renewed(self, offer):
        new = super().renewed(offer)
        self.looked_up += new is not offer
        return new


@pytest.fixture
def pages():
    return CountedPages(20, 4)


def warm(pages, text):
    """Leave a text's full pages in the cache."""
    pages.begin("warm", PaperPages.offer(pages, text))
    pages.reserve("warm", text)
    pages.commit()
    pages.free_request("warm")


def test_a_text_is_looked_up_once_for_one_state_of_the_pool(pages):
    offers, waiting = Offers(pages), state(1, prompt=range(1, 10))
    assert [offers.cached_tokens(waiting) for _ in range(3)] == [0, 0, 0]
    assert pages.looked_up == 1
    pages.pool.admit("x", [50] * 8)
    pages.pool.append("x", [50] * 8)
    pages.pool.confirm("x")
    pages.pool.free("x")
    before = pages.looked_up
    assert [offers.cached_tokens(waiting) for _ in range(3)] == [0, 0, 0]
    assert pages.looked_up <= before + 1, "one look-up for the changed pool"


def test_an_offer_follows_the_cache(pages):
    offers, waiting = Offers(pages), state(1, prompt=range(1, 10))
    assert offers.to(waiting).num_cached == 0
    warm(pages, list(range(1, 9)))
    assert offers.to(waiting).num_cached == offers.cached_tokens(waiting) == 8
    assert offers.to(waiting).num_needed == 3, "cached pages that no request holds are free, and taken"


def test_a_forgotten_request_is_looked_up_anew(pages):
    offers, waiting = Offers(pages), state(1, prompt=range(1, 10))
    offers.to(waiting)
    waiting.token_ids += [10, 11, 12, 13]
    offers.forget(waiting)
    offers.forget(waiting)
    before = pages.looked_up
    assert offers.to(waiting).num_needed == 4, "the text has grown"
    assert pages.looked_up == before + 1
