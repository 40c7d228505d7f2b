"""PrefixStore: the account of pages without tensors; a failed write stores nothing."""

import pytest

from helpers.caches import PrefixStore


def adds_up(store):
    assert store.free + store.tree.evictable + store.tree.pinned == store.capacity


def test_replay_counts_what_is_known_and_always_computes_the_last_token():
    store = PrefixStore(100, page_size=4)
    text = list(range(12))
    stats = store.replay([text, text, [*text, 50, 51], [90] * 5])
    assert (stats.requests, stats.prompt_tokens, stats.reused_tokens) == (4, 43, 0 + 8 + 12 + 0)
    assert stats.hit_rate == pytest.approx(20 / 43)
    adds_up(store)


def test_salts_keep_apart():
    text = list(range(9))
    assert PrefixStore(100, 1).replay([text, text], ["a", "b"]).reused_tokens == 0
    assert PrefixStore(100, 1).replay([text, text], ["a", "a"]).reused_tokens == 8


def test_a_full_store_keeps_what_is_used():
    store = PrefixStore(12, page_size=4)
    with store.using([1, 2, 3, 4]) as nothing:
        assert nothing.num_tokens == 0
    store.keep([1] * 8)
    with store.using([1] * 8) as found:
        store.keep([2] * 12)
        assert found.num_tokens == 8
        assert store.tree.peek([2] * 12) == 4, "one page was left"
        adds_up(store)
    store.keep([3] * 12)
    assert store.tree.peek([1] * 8) == 0
    adds_up(store)


def test_a_failed_write_stores_nothing_and_loses_nothing():
    store = PrefixStore(12, page_size=4)
    with pytest.raises(ZeroDivisionError):
        store.keep([1] * 8, write=lambda pages, start: 1 / 0)
    assert store.free == 3
    assert store.tree.pinned == store.tree.num_pages == 0


def test_what_is_written_are_the_new_pages_from_their_first_token():
    store, seen = PrefixStore(40, page_size=4), []
    store.keep(list(range(9)), write=lambda pages, start: seen.append((len(pages), start)))
    store.keep(list(range(17)), write=lambda pages, start: seen.append((len(pages), start)))
    store.keep(list(range(17)), write=lambda pages, start: seen.append((len(pages), start)))
    assert seen == [(2, 0), (2, 8)]


def test_no_more_is_thrown_out_than_room_is_needed():
    store = PrefixStore(20, page_size=4)
    store.keep([1] * 12)
    store.keep([2] * 12)
    assert store.tree.stats().evicted_pages == 1
    assert store.tree.peek([1] * 12) == 8


def test_it_holds_a_page_at_least():
    with pytest.raises(ValueError, match="a page of 16 tokens or more"):
        PrefixStore(15)


def test_pages_that_another_caller_took_from_the_tree_are_free_again():
    store = PrefixStore(64, 16)
    store.keep(list(range(64)))
    assert store.free == 0
    store.tree.clear()
    assert store.free == 4
    store.keep(list(range(100, 164)))
    assert (store.free, store.tree.num_pages) == (0, 4)
    store.tree.evict(2)
    store.keep([*range(100, 132), *range(200, 232)])
    assert sorted(page for node in store.tree.nodes() for page in node.pages) == [0, 1, 2, 3]


def test_one_request_is_one_look_up():
    store = PrefixStore(64, 16)
    store.replay([list(range(33)), list(range(33))])
    assert store.tree.stats().look_ups == 2
    assert store.tree.stats().hit_tokens == store.stats.reused_tokens == 32


def test_a_reset_forgets_every_text():
    store = PrefixStore(64, 16)
    store.keep(list(range(32)))
    with store.using(list(range(32))), pytest.raises(ValueError, match="pinned"):
        store.reset()
    store.reset()
    assert (store.free, store.tree.peek(list(range(32)))) == (4, 0)
