"""PageMap tells what a pool's own counts tell, page by page."""

import random

import pytest

from helpers.caches import OutOfPages, PagePool
from helpers.figures import PageMap


def begin(pool, name, tokens):
    cached = pool.admit(name, tokens)
    pool.append(name, tokens[cached:])
    pool.confirm(name)


def test_by_hand():
    pool = PagePool(8, 4)
    begin(pool, "a", list(range(9)))
    begin(pool, "b", list(range(5)))
    pool.fork("a", "c")
    begin(pool, "d", [7] * 6)
    pool.free("d")
    pages = PageMap.of(pool)
    assert pages.holders == (("a", "b", "c"), ("a", "c"), ("a", "c"), ("b",), (), (), (), ())
    assert pages.filled == (4, 4, 1, 1, 0, 0, 0, 0)
    assert pages.cached == {4}
    assert (pages.num_pages, pages.used, pages.shared, pages.wasted_slots) == (8, 4, 3, 6)
    assert pages.names == ["a", "b", "c"]


def test_a_map_stays_when_the_pool_goes_on():
    pool = PagePool(4, 4)
    begin(pool, "a", [1, 2])
    pages = PageMap.of(pool)
    pool.free("a")
    assert pages.holders[0] == ("a",)


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_the_pool(seed):
    rng = random.Random(seed)
    pool = PagePool(24, rng.choice((1, 3, 4)))
    for i in range(60):
        names, action = list(pool.requests), rng.randrange(5)
        try:
            if action == 0 or not names:
                begin(pool, i, [*range(rng.randrange(9)), rng.randrange(3)])
            elif action == 1:
                pool.fork(rng.choice(names), i)
            elif action == 2:
                pool.free(rng.choice(names))
            else:
                name = rng.choice(names)
                pool.append(name, [rng.randrange(3)] * rng.randrange(6))
                pool.confirm(name)
        except OutOfPages:
            pool.free(names[0] if names else i)
        pages, stats = PageMap.of(pool), pool.stats()
        assert (pages.used, pages.shared, pages.wasted_slots, len(pages.cached)) == (
            stats.used, stats.shared, stats.wasted_slots, stats.cached,
        )  # fmt: skip
        assert [len(names) for names in pages.holders] == [pool.refs(p) for p in range(24)]
        assert pool.cached_pages() == sorted(pages.cached, key=pool.cached_pages().index)
        assert not pages.cached & {p for name in pool.requests for p in pool.table(name)}


def test_the_page_to_be_taken_first_stands_first():
    pool = PagePool(4, 2)
    begin(pool, "a", [1, 2, 3, 4])
    begin(pool, "b", [5, 6])
    pool.free("b")
    pool.free("a")
    assert pool.cached_pages() == [2, 1, 0]
    pool.admit("c", [])
    pool.append_anonymous("c", 4)
    assert pool.cached_pages() == [1, 0]


@pytest.mark.parametrize("page", [-1, 4])
def test_a_page_that_is_not_there_has_no_references(page):
    with pytest.raises(ValueError, match=f"there are pages 0 to 3, got {page}"):
        PagePool(4, 2).refs(page)
