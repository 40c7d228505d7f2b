"""Pages: what an engine asks of a cache, whatever its pages hold; a few lines without tensors serve a scheduler."""

import pytest

from helpers import RequestScheduler
from helpers.caches import OutOfPages, PagePool, Pages
from helpers.engine import Request

TEXT = list(range(100, 112))


class Accounts(Pages):
    """The least that a cache has to add: nothing but accounts, confirmed in `commit`."""

    def __init__(self, num_pages=6, page_size=4):
        super().__init__(PagePool(num_pages, page_size))
        self.reserved = []

    def reserve(self, request_id, tokens):
        self.pool.append(request_id, tokens)
        self.reserved.append(request_id)

    def commit(self):
        self.pool.confirm(*{name for name in self.reserved if name in self.pool.requests})
        self.reserved = []

    def abandon(self):
        self.pool.rollback(*{name for name in self.reserved if name in self.pool.requests})
        self.reserved = []


def serve(pages, name, tokens):
    cached = pages.begin(name, pages.offer(tokens))
    pages.reserve(name, tokens[cached:])
    pages.commit()
    return cached


def test_sizes_are_the_pools():
    pages = Accounts(6, 4)
    assert (pages.capacity, pages.page_size, pages.used_pages, pages.free_pages) == (24, 4, 0, 6)
    serve(pages, "x", TEXT[:9])
    assert (pages.capacity, pages.used_pages, pages.free_pages, pages.length("x")) == (24, 3, 3, 9)
    pages.free_request("x")
    assert (pages.used_pages, pages.free_pages) == (0, 6), "cached pages are free"


def test_a_door_alone_cannot_hold_a_pass():
    pages = Pages(PagePool(2, 4))
    for call in (lambda: pages.reserve("x", [1]), pages.abandon):
        with pytest.raises(NotImplementedError):
            call()


def test_an_offer_begins_a_request_with_what_is_cached():
    pages = Accounts()
    assert serve(pages, "x", TEXT[:9]) == 0
    offer = pages.offer(TEXT)
    assert (offer.num_cached, offer.num_needed) == (8, 1)
    assert pages.offer(TEXT, salt="another").num_cached == 0
    pages.free_request("x")
    with pytest.raises(ValueError, match="renew the offer"):
        pages.begin("y", offer)
    offer = pages.renewed(offer)
    assert (offer.num_cached, offer.num_needed) == (8, 3)
    assert (pages.begin("y", offer), pages.length("y")) == (8, 8)


def test_fits_counts_what_is_free_what_would_be_freed_and_what_is_owed():
    pages = Accounts(6, 4)
    serve(pages, "x", TEXT[:9])
    offer = pages.offer([7] * 12)
    assert pages.fits(offer)
    assert not pages.fits(offer, owed=1)
    assert pages.fits(offer, freed=["x"], owed=3)
    assert not pages.fits(offer, freed=["x"], owed=4)
    assert not pages.fits(pages.offer([7] * 13))
    with pytest.raises(ValueError, match="no request 'y' here"):
        pages.fits(offer, freed=["y"])


def test_a_refusal_says_what_is_missing():
    pages = Accounts(2, 4)
    serve(pages, "x", [1])
    error = pages.refusal("y", pages.offer(TEXT))
    assert isinstance(error, OutOfPages)
    assert (error.needed, error.free) == (3, 1)
    assert str(error) == "request 'y' needs 3 more pages, 1 of the pool's 2 are free"


@pytest.mark.parametrize(
    ("num_tokens", "num_held", "owed"),
    [(9, 0, 3), (9, 4, 2), (9, 5, 1), (9, 8, 1), (9, 9, 0), (8, 8, 0), (1, 0, 1)],
)
def test_owed_pages_are_those_that_a_request_has_still_to_take(num_tokens, num_held, owed):
    pages = Accounts(6, 4)
    assert pages.owed_pages(num_tokens, num_held) == owed
    pages.begin("x", pages.offer(TEXT[:num_tokens]))
    pages.reserve("x", TEXT[:num_held])
    free = pages.free_pages
    pages.reserve("x", TEXT[num_held:num_tokens])
    assert free - pages.free_pages == owed


def test_what_can_be_reserved_is_reserved():
    pages = Accounts(3, 4)
    serve(pages, "x", TEXT[:8])
    serve(pages, "y", [1])
    assert pages.can_reserve("y", 3)
    assert not pages.can_reserve("y", 4)
    assert pages.can_reserve("y", 4, freed=["x"])
    with pytest.raises(OutOfPages):
        pages.reserve("y", [1] * 4)
    assert pages.length("y") == 1
    pages.free_request("x")
    pages.reserve("y", [1] * 4)
    assert pages.length("y") == 5


def test_a_fork_shares_until_it_writes():
    pages = Accounts()
    serve(pages, "x", TEXT[:6])
    pages.fork("x", "y")
    assert (pages.used_pages, pages.length("y")) == (2, 6)
    pages.reserve("y", [1])
    assert pages.used_pages == 3


def test_take_back_gives_up_the_pass_and_cuts_what_is_longer():
    pages = Accounts()
    serve(pages, "x", TEXT[:5])
    serve(pages, "y", [1, 2, 3])
    serve(pages, "z", [7, 8])
    for name in "xy":
        pages.reserve(name, [9, 9])
    assert pages.take_back({"x": 4, "y": 4}) == {"x": 4, "y": 3}, (
        "cut to 4; the pass was given up, 3 are left"
    )
    assert [pages.length(name) for name in "xyz"] == [4, 3, 2]
    assert pages.take_back({}) == {}


def served(pages, requests):
    """Answers every request with zeros, as `ContinuousBatcher` would; gives the passes by name and tokens."""
    scheduler, passes = RequestScheduler(2, token_budget=8, pages=pages), []
    for request in requests:
        scheduler.add_request(request)
    while chunks := scheduler.schedule():
        passes.append([(chunk.state.name, chunk.num_tokens) for chunk in chunks])
        pages.commit()
        for state, tokens in chunks:
            state.computed += len(tokens)
            if not state.remaining:
                scheduler.took(state, 0, 0.0)
    return scheduler, passes


def test_a_cache_without_tensors_serves_a_scheduler():
    pages = Accounts(6, 4)
    scheduler, passes = served(pages, [Request("a", TEXT[:6], 3), Request("b", [*TEXT[:6], 1], 2)])
    assert {name: len(state.token_ids) for name, state in scheduler.finished.items()} == {"a": 3, "b": 2}
    assert scheduler.finished["b"].cached_tokens == 4
    assert passes[0] == [("a", 6), ("b", 2)]
    assert passes[1] == [("a", 1), ("b", 1)], "b's first page is a's: 4 of its 7 tokens are cached"
    assert (pages.used_pages, list(pages.pool.requests)) == (0, [])
    assert pages.offer([*TEXT[:6], 1]).num_cached == 4


def test_a_scheduler_lets_requests_wait_for_pages():
    pages = Accounts(2, 4)
    scheduler, passes = served(pages, [Request("a", TEXT[:6], 2), Request("b", [9] * 6, 2)])
    assert passes == [[("a", 6)], [("a", 1)], [("b", 6)], [("b", 1)]]
    assert len(scheduler.finished) == 2
    assert pages.pool.stats().peak_used == 2
