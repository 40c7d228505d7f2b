"""PaperPages: the accounts of a PagedKVCache, though the pool is told of most tokens late."""

import random

import pytest

from helpers.caches import OutOfPages, PagedKVCache, Pages
from helpers.estimates import Ceilings
from helpers.model import PUBLISHED, FlatBatch
from helpers.simulation import PaperModel, PaperPages
from helpers.traffic import VirtualClock


def begun(size=4, tokens=5):
    pages = PaperPages(20, size)
    pages.begin("a", pages.offer([1] * tokens))
    pages.reserve("a", [1] * tokens)
    pages.commit()
    return pages


def test_spare_tokens_stay_untold_until_a_page_is_filled():
    pages, lengths = begun(), []
    for token in range(4):
        pages.reserve("a", [token])
        pages.commit()
        lengths.append(pages.pool.length("a"))
    assert lengths == [5, 5, 8, 9], "token 8 fills a page, token 9 takes one"
    assert pages.used_pages == 3


def test_a_filled_page_is_found_with_the_untold_tokens_in_it():
    pages = begun()
    for token in (6, 7):
        pages.reserve("a", [token])
    assert pages.offer([1] * 5 + [6, 7, 8, 9]).num_cached == 4
    pages.reserve("a", [8])
    pages.commit()
    assert pages.offer([1] * 5 + [6, 7, 8, 9]).num_cached == 8


def test_a_fork_tells_the_untold_tokens_first():
    pages = begun()
    pages.reserve("a", [6])
    pages.commit()
    assert pages.pool.length("a") == 5
    pages.fork("a", "b")
    assert (pages.pool.length("a"), pages.pool.length("b")) == (6, 6)
    assert pages.used_pages == 2
    pages.reserve("b", [7])
    assert pages.used_pages == 3, "the first request that writes into the shared page copies it"


def reserved(pages, name, tokens):
    """Reserve tokens; return whether there were pages for them."""
    try:
        pages.reserve(name, tokens)
    except OutOfPages:
        return False
    return True


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_same_pages_are_free_as_in_a_cache_after_the_same_calls(size, seed):
    """Random requests that grow, fork and end, on a pool that runs out of pages."""
    rng = random.Random(seed)
    model = PaperModel(PUBLISHED["SmolLM2-135M"], Ceilings(1.0, 1.0), VirtualClock())
    paper, cache = PaperPages(40 // size, size), PagedKVCache.for_model(model, 40 // size, size)
    refused, forked, lengths = 0, 0, {}
    for number in range(150):
        name, move = (rng.choice(list(lengths)) if lengths else None), rng.random()
        if name is None or move < 0.1:
            name, tokens = number, [rng.randrange(2) for _ in range(rng.randrange(1, 9))]
            ours, theirs = paper.offer(tokens), cache.offer(tokens)
            assert (ours.num_cached, ours.num_needed) == (theirs.num_cached, theirs.num_needed)
            lengths[name] = paper.begin(name, ours)
            assert cache.begin(name, theirs) == lengths[name]
            tokens = tokens[lengths[name] :]
        elif move < 0.15:
            for pages in (paper, cache):
                pages.fork(name, number)
            lengths[number], forked = lengths[name], forked + 1
            continue
        elif move < 0.25:
            for pages in (paper, cache):
                pages.free_request(name)
            del lengths[name]
            assert paper.free_pages == cache.free_pages
            continue
        else:
            tokens = [rng.randrange(2)]
        if reserved(paper, name, tokens):
            assert reserved(cache, name, tokens)
            paper.commit()
            model(FlatBatch.pack([tokens], [lengths[name]], [name]), cache)
            lengths[name] += len(tokens)
        else:
            assert not reserved(cache, name, tokens)
            refused += 1
        assert paper.free_pages == cache.free_pages
    assert refused
    assert forked


@pytest.mark.parametrize("passes", [1, 2, 9])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_passes_reserved_together_take_the_pages_in_turn(size, passes):
    """The tables and the order of cached pages equal those of one reservation a token."""
    pools = []
    for reserve in (PaperPages.reserve_in_turn, Pages.reserve_in_turn):
        pages = PaperPages(80, size)
        for i, name in enumerate("abc"):
            pages.begin(name, pages.offer([i] * (4 + i)))
            pages.reserve(name, [i] * (4 + i))
        pages.commit()
        reserve(pages, [(name, list(range(10, 10 + passes))) for name in "abc"])
        for name in "abc":
            pages.reserve(name, [5] * size)
        pages.commit()
        tables = [pages.pool.table(name) for name in "abc"]
        for name in "abc":
            pages.free_request(name)
        pools.append((tables, pages.pool.cached_pages(), pages.pool.stats()))
    assert pools[0] == pools[1]


def test_a_forked_request_asks_the_pool_again():
    """Its last page is shared, so that its next token needs a copy."""
    pages = PaperPages(2, 8)
    pages.begin("a", pages.offer([1, 2, 3]))
    pages.reserve("a", [1, 2, 3])
    pages.commit()
    pages.fork("a", "b")
    pages.begin("c", pages.offer([5] * 8))
    pages.reserve("c", [5] * 8)
    assert not pages.can_reserve("a", 1)
    with pytest.raises(OutOfPages):
        pages.reserve("a", [4])
