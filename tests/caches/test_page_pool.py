"""PagePool: by hand, case by case; then any sequence of calls against a naive memory that remembers what was written."""

import re
import sys

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helpers.caches import OutOfPages, PagePool, RequestPages

SIZE = 4


def pool(num_pages=10, page_size=SIZE, **options):
    return PagePool(num_pages, page_size, **options)


def begin(pages, name, tokens, salt=None):
    """Admits a request and runs the step that computes its whole prompt; gives the tokens that were cached."""
    cached = pages.admit(name, tokens, salt)
    assert pages.append(name, tokens[cached:]) == []
    pages.confirm(name)
    return cached


def text(n, start=100):
    return list(range(start, start + n))


def state(pages):
    """All that can be seen of a pool from outside."""
    return (pages.stats(), [(name, pages.length(name), pages.table(name)) for name in pages.requests])


def snapshot(pages):
    """All that a pool remembers; its pages and what is cached; who names them."""
    refs = [pages.refs(page) for page in range(pages.num_pages)]
    return (remembered(pages), pages.num_free, pages.cached_pages(), refs)


def remembered(thing):
    """The values of an object's attributes, and of theirs, in a form that can be compared."""
    if isinstance(thing, dict):
        return [(key, remembered(value)) for key, value in thing.items()]
    if isinstance(thing, list | tuple | set):
        return [remembered(item) for item in thing]
    if isinstance(thing, RequestPages):
        return repr(thing)
    return remembered(vars(thing)) if type(thing).__module__.startswith("helpers") else thing


# Tables and slots


def test_appending_starts_at_the_last_token_not_at_the_end_of_its_page():
    pages = pool(20, 16)
    begin(pages, "a", text(100))
    assert len(pages.table("a")) == 7
    pages.append("a", text(50))
    assert len(pages.table("a")) == 10, (
        "150 tokens are 10 pages; 7 whole pages and 50 more tokens would be 11"
    )
    assert pages.stats().wasted_slots == 10


def test_slots_follow_the_table():
    pages = pool()
    begin(pages, "x", text(6))
    begin(pages, "y", text(3, 500))
    begin(pages, "z", [1])
    pages.append("x", [1, 2, 3])
    table = pages.table("x")
    assert table == (0, 1, 4)
    assert pages.slots("x", 0, 9) == [table[i // SIZE] * SIZE + i % SIZE for i in range(9)]
    assert pages.slots("x", 7, 9) == [7, 16]
    assert pages.slots("x", 8, 9) == [16]
    assert pages.slots("x", 3, 3) == []
    assert pages.slots("x", 9, 9) == []


@pytest.mark.parametrize("span", [(-1, 2), (2, 1), (0, 7)])
def test_slots_beyond_the_tokens_are_refused(span):
    pages = pool()
    begin(pages, "x", text(6))
    with pytest.raises(ValueError, match=re.escape(f"has 6 tokens, got the range {span[0]}:{span[1]}")):
        pages.slots("x", *span)


def test_a_table_given_out_is_not_the_pools_own():
    pages = pool()
    begin(pages, "x", text(6))
    before = pages.table("x")
    pages.append_anonymous("x", 9)
    assert before == (0, 1)


def test_counts():
    pages = pool()
    begin(pages, "x", text(9))
    begin(pages, "y", text(9))
    begin(pages, "z", 3 * [7])
    stats = pages.stats()
    assert (stats.used, stats.free, stats.shared, stats.cached) == (5, 5, 2, 0)
    assert (stats.wasted_slots, stats.peak_used, stats.hit_tokens, stats.looked_up_tokens) == (
        3 + 3 + 1,
        5,
        8,
        21,
    )
    pages.free("x")
    pages.free("y")
    stats = pages.stats()
    assert (stats.used, stats.free, stats.shared, stats.cached, stats.peak_used) == (1, 9, 0, 2, 5)
    assert list(pages.requests) == ["z"]
    assert (pages.num_free, pages.num_used) == (9, 1)


def test_wasted_slots_of_a_page_that_forks_share():
    pages = pool()
    begin(pages, "x", text(7))
    pages.fork("x", "y")
    assert pages.stats().wasted_slots == 1, "one page, counted once"
    pages.truncate("y", 5)
    assert pages.stats().wasted_slots == 1, "x fills it further than y"
    pages.truncate("x", 4)
    assert pages.stats().wasted_slots == 3
    pages.append("x", text(4, 900))
    pages.confirm("x")
    pages.fork("x", "w")
    pages.truncate("w", 6)
    assert pages.stats().wasted_slots == 3, "w ends in a page that x fills"


# Hits


def test_a_cached_prompt_computes_its_last_token():
    pages = pool()
    begin(pages, "x", text(12))
    for n, hit in ((1, 0), (4, 0), (5, 4), (8, 4), (9, 8), (11, 8), (12, 8)):
        assert pages.cached_tokens(text(12)[:n]) == hit, n
    assert pages.cached_tokens([*text(12), 1]) == 12
    assert pages.cached_tokens([]) == 0
    assert begin(pages, "y", text(12)) == 8
    assert pages.table("y")[:2] == pages.table("x")[:2]
    assert pages.table("y")[2] != pages.table("x")[2], "its last page is computed again, into its own page"


def test_looking_up_changes_nothing():
    pages = pool()
    begin(pages, "x", text(12))
    pages.free("x")
    before = snapshot(pages)
    assert pages.cached_tokens(text(12)) == 8
    assert pages.pages_to_admit(text(12)) == 3
    assert snapshot(pages) == before


def test_a_page_hits_only_after_the_same_beginning():
    pages = pool()
    begin(pages, "x", text(12))
    assert pages.cached_tokens([*text(4, 500), *text(8)[4:], 1]) == 0
    assert pages.cached_tokens([*text(4), *text(4, 500), *text(12)[8:], 1]) == 4
    assert pages.cached_tokens([*text(12)[4:], 1]) == 0


def test_prompts_that_part_and_meet_again():
    pages = pool(20)
    ends = [text(4, start) for start in (300, 400, 500)]
    for i, end in enumerate(ends):
        assert begin(pages, i, text(8) + end) == (8 if i else 0)
    for i, end in enumerate(ends):
        assert pages.cached_tokens(text(8) + end + [1]) == 12
        assert begin(pages, f"again {i}", text(8) + end + [1]) == 12
        assert pages.table(f"again {i}")[:3] == pages.table(i)


def test_a_page_taken_for_another_text_is_found_by_its_new_text_only():
    pages = pool(3)
    begin(pages, "x", text(12))
    pages.free("x")
    begin(pages, "y", text(4) + text(8, 500))
    pages.free("y")
    assert pages.stats().evictions == 2
    assert pages.cached_tokens([*text(12), 1]) == 4
    assert pages.cached_tokens([*text(4), *text(8, 500), 1]) == 12


def test_salts_keep_tenants_apart():
    pages = pool()
    begin(pages, "x", text(9), salt="a")
    assert pages.cached_tokens(text(9), salt="a") == 8
    assert pages.cached_tokens(text(9), salt="b") == 0
    assert pages.cached_tokens(text(9)) == 0
    assert begin(pages, "y", text(9), salt="b") == 0
    assert begin(pages, "z", text(9)) == 0
    assert len({page for name in "xyz" for page in pages.table(name)}) == 9


def test_a_number_as_salt_is_no_page_number():
    pages = pool(40)
    begin(pages, "x", text(12))
    for number in range(4):
        assert pages.cached_tokens(text(12), salt=number) == 0
        assert pages.cached_tokens(text(12)[4:], salt=number) == 0


def test_requests_of_one_step_share():
    pages = pool(10)
    first = pages.admit("x", text(9))
    pages.append("x", text(9))
    assert (first, pages.admit("y", text(9)), pages.admit("z", text(12))) == (0, 8, 8)
    pages.append("y", text(9)[8:])
    pages.append("z", text(12)[8:])
    assert pages.num_used == 5
    pages.confirm("z", "y", "x")
    for name in "zyx":
        assert pages.free(name) == []
    assert pages.stats().cached == 3


def test_decoded_tokens_are_shared_too():
    pages = pool()
    begin(pages, "x", text(3))
    for token in text(6, 103):
        pages.append("x", [token])
        pages.confirm("x")
    assert pages.cached_tokens(text(9)) == 8


def test_what_follows_a_page_computed_twice_is_found():
    pages = pool()
    begin(pages, "x", text(8))
    begin(pages, "y", text(8))
    pages.append("y", text(4, 108))
    pages.confirm("y")
    assert pages.cached_tokens([*text(12), 1]) == 12
    begin(pages, "z", [*text(12), 1])
    assert pages.table("z")[:3] == (*pages.table("x"), pages.table("y")[2])


def test_chunks_of_any_size_give_the_same_keys():
    for size in range(1, 12):
        pages = pool()
        pages.admit("x", text(11))
        for start in range(0, 11, size):
            pages.append("x", text(11)[start : start + size])
            pages.confirm("x")
        assert pages.cached_tokens(text(11)) == 8


def test_anonymous_tokens_and_what_follows_are_never_shared():
    pages = pool()
    pages.admit("x", text(4))
    pages.append("x", text(4))
    pages.append_anonymous("x", 4)
    pages.append("x", text(8, 104))
    pages.confirm("x")
    assert pages.cached_tokens(text(16)) == 4
    pages.truncate("x", 8)
    pages.append("x", text(4, 300))
    assert pages.cached_tokens([*text(4), *text(4, 300), 1]) == 4, "the anonymous page stands between"
    pages.truncate("x", 6)
    pages.append("x", text(6, 106))
    assert pages.cached_tokens([*text(12), 1]) == 4, "so does one cut in the middle"
    pages.truncate("x", 4)
    pages.append("x", text(5, 104))
    assert pages.cached_tokens(text(9)) == 8, "once they are gone, the text is known again"
    pages.admit("y", text(9, 500))
    pages.append_anonymous("y", 5)
    pages.truncate("y", 0)
    pages.append("y", text(9, 500))
    assert pages.cached_tokens(text(9, 500)) == 8, "even from the first token on"


def test_an_anonymous_page_has_no_text_of_the_past():
    pages = pool(3)
    begin(pages, "x", text(12))
    pages.free("x")
    pages.admit("y", text(9))
    pages.append_anonymous("y", 4)
    assert pages.last_taken == [2]
    pages.truncate("y", 12)
    pages.free("y")
    pages.admit("y", [])
    pages.append_anonymous("y", 12)
    pages.truncate("y", 8)
    pages.append("y", text(4, 700))
    for before in (4, 8):
        assert pages.cached_tokens([*text(before), *text(4, 700), 1]) == 0


def test_without_sharing():
    pages = pool(sharing=False)
    begin(pages, "x", text(9))
    assert pages.cached_tokens(text(9)) == 0
    assert begin(pages, "y", text(9)) == 0
    pages.truncate("y", 4)
    pages.append("y", text(8, 104))
    pages.confirm("y")
    assert pages.admit("z", text(12)) == 0
    pages.free("x")
    pages.free("y")
    assert (pages.stats().cached, pages.num_free) == (0, 10)


def test_a_fork_shares_even_without_sharing():
    pages = pool(sharing=False)
    begin(pages, "x", text(6))
    pages.fork("x", "y")
    assert pages.append("y", [1]) == [(1, 2)]


# The free queue


def test_pages_without_a_key_are_taken_first_the_last_freed_before_others():
    pages = pool(6)
    begin(pages, "x", text(9))
    begin(pages, "y", text(9, 500))
    pages.free("x")
    pages.free("y")
    assert pages.admit("z", []) == 0
    pages.append_anonymous("z", 1)
    assert pages.last_taken == [5], "y's partial page"
    pages.append_anonymous("z", 4)
    assert pages.last_taken == [2], "x's partial page"


def test_the_end_of_a_text_is_evicted_before_its_beginning():
    pages = pool(6)
    begin(pages, "x", text(12))
    begin(pages, "y", text(12, 500))
    pages.free("y")
    pages.free("x")
    pages.admit("z", [])
    taken = []
    for _ in range(6):
        pages.append_anonymous("z", 4)
        taken += pages.last_taken
    assert taken == [5, 4, 3, 2, 1, 0]
    assert pages.stats().evictions == 6


def test_a_hit_counts_as_use():
    pages = pool(4)
    begin(pages, "x", text(8))
    begin(pages, "y", text(8, 500))
    pages.free("x")
    pages.free("y")
    pages.admit("again", [*text(8), 1])
    pages.free("again")
    begin(pages, "z", text(5, 900))
    assert pages.cached_tokens([*text(8), 1]) == 8
    assert pages.cached_tokens([*text(8, 500), 1]) == 0


def test_a_hit_takes_pages_out_of_the_middle_of_the_queue():
    pages = pool(6)
    for name, start in (("x", 100), ("y", 500), ("z", 900)):
        begin(pages, name, text(8, start))
    for name in "xyz":
        pages.free(name)
    assert pages.admit("again", [*text(8, 500), 1]) == 8
    assert (pages.num_free, pages.table("again")) == (4, (2, 3))
    pages.append_anonymous("again", 16)
    assert pages.last_taken == [1, 0, 5, 4]


def test_a_prompt_that_hits_free_pages_needs_them_too():
    pages = pool(4)
    begin(pages, "x", text(12))
    assert pages.pages_to_admit(text(12)) == 1, "two are in use already"
    pages.free("x")
    assert pages.pages_to_admit(text(12)) == 3
    assert pages.pages_to_admit(text(5, 900)) == 2


def test_computing_a_cached_page_again_counts_as_use():
    pages = pool(6)
    begin(pages, "x", text(8))
    begin(pages, "y", text(8, 500))
    pages.free("x")
    pages.free("y")
    begin(pages, "again", text(8))
    pages.append("again", text(4, 108))
    pages.confirm("again")
    assert pages.table("again") == (0, 4, 5), "page 1 holds the same text as page 4"
    pages.free("again")
    pages.admit("z", [])
    taken = []
    for _ in range(6):
        pages.append_anonymous("z", 4)
        taken += pages.last_taken
    assert taken == [4, 3, 2, 5, 1, 0], "the copy, the text unused for longest, then this one from its end"


def take_over(pages):
    """x and y compute the same second page; x's, the one that is found, is taken for z while y goes on."""
    begin(pages, "x", text(8))
    begin(pages, "y", text(8))
    pages.append("y", text(4, 108))
    pages.confirm("y")
    pages.free("x")
    begin(pages, "z", text(8, 900))
    assert pages.stats().evictions == 1


def test_a_page_of_the_same_text_takes_over_when_the_found_one_is_gone():
    pages = pool(5)
    take_over(pages)
    assert pages.cached_tokens([*text(12), 1]) == 12, "y holds the text, so it is cached"
    pages.fork("y", "w")
    pages.free("w")
    assert pages.cached_tokens([*text(12), 1]) == 12
    pages.free("y")
    assert pages.cached_tokens([*text(12), 1]) == 12


def test_a_text_that_a_request_holds_is_not_lost_with_another_requests_page():
    pages = pool(3, 16)
    for name in (0, 1):
        pages.admit(name, text(16))
        pages.append(name, text(16))
    pages.confirm(0, 1)
    pages.free(0)
    begin(pages, 2, text(32, 900))
    assert pages.cached_tokens([*text(16), 1]) == 16, "request 1 holds the text"


def test_an_unwritten_duplicate_that_takes_over_is_pending():
    pages = pool(2)
    begin(pages, "x", text(4))
    pages.admit("y", text(4))
    pages.append("y", text(4))
    pages.free("x")
    pages.admit("z", [])
    pages.append("z", text(4, 900))
    assert pages.cached_tokens([*text(4), 1]) == 4
    pages.admit("w", [*text(4), 1])
    with pytest.raises(ValueError, match="yet to write"):
        pages.confirm("w")
    pages.free("w")
    pages.rollback("y")
    assert pages.cached_tokens([*text(4), 1]) == 0, "nobody has written it"


def test_what_follows_an_overwritten_page_is_cached_no_longer():
    pages = pool()
    begin(pages, "x", text(12))
    pages.truncate("x", 2)
    assert pages.stats().cached == 2
    pages.append("x", [7])
    assert pages.stats().cached == 0, "pages that cannot be found again are blank"


def test_anonymous_tokens_taken_back_leave_the_text_known():
    pages = pool()
    begin(pages, "x", text(3))
    pages.append_anonymous("x", 2)
    pages.rollback("x")
    pages.append("x", text(2, 103))
    pages.confirm("x")
    assert pages.cached_tokens(text(6)) == 4


def test_whole_numbers_of_any_type_are_tokens():
    pages = pool()
    begin(pages, "x", [np.int32(1), np.uint8(2), 3, np.int64(4), 5])
    assert pages.cached_tokens([1, 2, 3, 4, 9]) == 4
    pages.append_anonymous("x", np.int64(3))
    assert pages.length("x") == 8


def test_an_offer_is_redeemed_without_a_second_look_up_until_the_pool_changes():
    pages = pool()
    begin(pages, "x", text(9))
    offer = pages.offer(text(12))
    assert (offer.num_cached, offer.num_needed, offer.num_tokens) == (8, 1, 12)
    assert pages.renewed(offer) is offer
    pages.free("x")
    with pytest.raises(ValueError, match="the pool has changed since the offer to request 'y'; renew"):
        pages.redeem("y", offer)
    offer = pages.renewed(offer)
    assert (offer.num_cached, offer.num_needed) == (8, 3)
    assert pages.redeem("y", offer) == 8


def test_what_would_fit_if_others_were_freed():
    pages = pool(4)
    begin(pages, "x", text(8))
    pages.fork("x", "twin")
    begin(pages, "y", text(8, 500))
    new, known = pages.offer(text(8, 900)), pages.offer(text(8))
    assert not pages.fits(new)
    assert not pages.fits(new, ["x"]), "its pages are its fork's, too"
    assert pages.fits(new, ["x", "twin"])
    assert pages.fits(new, ["y"])
    assert not pages.fits(new, ["y"], owed=1)
    assert not pages.fits(known)
    assert pages.fits(known, ["x", "twin"]), "cached pages that are freed count as taken again"
    assert not pages.can_append("x", 1)
    assert pages.can_append("x", 1, ["y"])
    assert pages.pages_needed("x", 1) == 1


def test_a_reset_forgets_every_text():
    pages = pool()
    begin(pages, "x", text(9))
    with pytest.raises(ValueError, match="1 requests hold pages"):
        pages.reset()
    pages.free("x")
    pages.reset()
    assert (pages.cached_tokens(text(9)), pages.stats().cached, pages.num_free) == (0, 0, 10)
    begin(pages, "x", text(9))
    assert pages.cached_tokens(text(9)) == 8


def test_freeing_duplicates_is_linear():
    """Steps of the interpreter, not seconds: four times the pages are four times the work, within a fifth."""

    def work(n):
        pages = pool(2 * n, 1)
        for name in "xy":
            pages.admit(name, text(n))
            pages.append(name, text(n))
        pages.confirm("x", "y")
        return lines_of(lambda: pages.free("y"))

    assert work(2000) < 4.8 * work(500)


def lines_of(call):
    """Lines of Python that a call executes."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def test_what_follows_a_page_that_is_gone_does_not_follow_its_next_text():
    pages = pool(5)
    take_over(pages)
    assert pages.table("z")[0] == 1 or pages.table("z")[1] == 1, "z stands where x's second page stood"
    for i in (4, 8):
        assert pages.cached_tokens([*text(i, 900), *text(4, 108), 1]) == i


def test_a_page_of_the_same_text_takes_over_only_if_it_is_written():
    pages = pool()
    pages.admit("x", text(9))
    pages.admit("y", text(9))
    pages.append("x", text(9))
    pages.append("y", text(9))
    assert pages.free("x") == [], "y has pages of its own"
    pages.free("y")
    assert (pages.stats().cached, pages.cached_tokens(text(9))) == (0, 0)


# Forks and copies


@pytest.mark.parametrize("first", ["parent", "child"])
def test_the_first_to_write_into_a_shared_page_copies_it(first):
    second = {"parent": "child", "child": "parent"}[first]
    pages = pool()
    begin(pages, "parent", text(6))
    pages.fork("parent", "child")
    assert pages.table("child") == pages.table("parent") == (0, 1)
    assert pages.stats().shared == 2
    assert pages.pages_needed(first, 1) == 1
    assert pages.append(first, [1]) == [(1, 2)]
    assert pages.table(first) == (0, 2)
    assert pages.pages_needed(second, 1) == 0
    assert pages.append(second, [2]) == []
    assert pages.table(second) == (0, 1)
    assert (pages.stats().shared, pages.stats().copies) == (1, 1)


def test_each_of_several_children_copies_but_one():
    pages = pool(12)
    begin(pages, "p", text(6))
    for child in range(4):
        pages.fork("p", child)
    copies = [pages.append(name, [token]) for token, name in enumerate((2, "p", 0, 3, 1))]
    assert copies == [[(1, 2)], [(1, 3)], [(1, 4)], [(1, 5)], []]
    pages.confirm(0, 1, 2, 3, "p")
    for name in (0, "p", 1, 2, 3):
        pages.free(name)
    assert pages.num_free == 12


def test_a_fork_at_the_end_of_a_page_copies_nothing():
    pages = pool()
    begin(pages, "p", text(8))
    pages.fork("p", "c")
    assert pages.append("c", [1]) == pages.append("p", [1]) == []
    assert pages.table("p")[:2] == pages.table("c")[:2]
    assert pages.num_used == 4


def test_forks_that_go_on_alike_and_apart_keep_their_texts():
    pages = pool(12)
    begin(pages, "p", text(6))
    pages.fork("p", "c")
    pages.fork("p", "d")
    pages.append("c", text(2, 106))
    pages.append("p", text(2, 106))
    pages.append("d", text(2, 900))
    pages.confirm("p", "c", "d")
    assert pages.cached_tokens([*text(8), 1]) == 8
    assert pages.cached_tokens([*text(6), *text(2, 900), 1]) == 8
    assert pages.admit("e", [*text(8), 1]) == 8
    assert pages.table("e")[1] == pages.table("c")[1]


def test_a_fork_of_unwritten_tokens_is_refused():
    pages = pool()
    pages.admit("p", text(6))
    pages.append("p", text(6))
    before = snapshot(pages)
    with pytest.raises(ValueError, match="'p' has unwritten tokens; confirm"):
        pages.fork("p", "c")
    pages.admit("q", text(6))
    with pytest.raises(ValueError, match="'q' has unwritten tokens"):
        pages.fork("q", "c")
    pages.free("q")
    assert snapshot(pages)[1:] == before[1:]
    pages.confirm("p")
    pages.fork("p", "c")


# Steps that fail


def test_rollback_takes_back_the_step_and_its_keys():
    pages = pool()
    begin(pages, "x", text(6))
    before = snapshot(pages)
    pages.append("x", text(7, 106))
    assert pages.cached_tokens([*text(12), 1]) == 12
    assert pages.rollback("x") == []
    after = snapshot(pages)
    assert after[1:] == before[1:]
    assert pages.cached_tokens([*text(12), 1]) == 4, "what was never written is not found"
    pages.append("x", text(3, 106))
    pages.confirm("x")
    assert pages.cached_tokens([*text(8), 1]) == 8


def test_a_request_that_hit_a_page_of_the_failed_step_goes_back_too():
    pages = pool()
    begin(pages, "x", text(6))
    pages.append("x", text(7, 106))
    for name, n in (("y", 14), ("z", 9), ("w", 5)):
        cached = pages.admit(name, text(n))
        pages.append(name, text(n)[cached:])
    assert [pages.length(name) for name in "yzw"] == [14, 9, 5]
    assert set(pages.rollback("x")) == {"y", "z"}
    assert [pages.length(name) for name in "xyzw"] == [6, 4, 4, 5], "w had hit only the page written before"
    pages.append("y", text(14)[4:])
    pages.confirm("w", "z", "y")
    assert pages.cached_tokens([*text(12), 1]) == 12
    assert pages.admit("v", text(14)) == 12
    assert pages.table("v") == pages.table("y")[:3]


@pytest.mark.parametrize("how", ["free", "truncate"])
def test_whoever_ends_before_its_step_takes_along_who_counted_on_it(how):
    pages = pool()
    pages.admit("x", text(9))
    pages.append("x", text(9))
    pages.admit("y", text(9))
    pages.admit("z", text(9))
    lost = pages.free("x") if how == "free" else pages.truncate("x", 7)
    assert set(lost) == {"y", "z"}
    assert {pages.length("y"), pages.length("z")} == ({0} if how == "free" else {4})
    assert pages.cached_tokens([*text(9), 1]) == (0 if how == "free" else 4)


def test_a_chain_of_requests_of_one_step_falls_together():
    pages = pool(20)
    for n in range(1, 6):
        cached = pages.admit(n, text(4 * n))
        pages.append(n, text(4 * n)[cached:])
        assert cached == 4 * (n - 1)
    assert pages.num_used == 5
    assert sorted(pages.rollback(1)) == [2, 3, 4, 5]
    assert (pages.num_used, pages.stats().cached) == (0, 0)


def test_rollback_of_the_whole_step_in_any_order():
    for order in (("x", "y", "z"), ("z", "y", "x"), ("y", "x", "z")):
        pages = pool()
        for name, n in (("x", 5), ("y", 9), ("z", 13)):
            cached = pages.admit(name, text(n))
            pages.append(name, text(n)[cached:])
        assert pages.rollback(*order) == []
        assert [pages.length(name) for name in order] == [0, 0, 0]
        assert (pages.num_free, pages.stats().cached) == (10, 0)


def test_confirming_counts_on_everything_below():
    pages = pool()
    pages.admit("x", text(9))
    pages.append("x", text(9))
    pages.admit("y", text(9))
    pages.append("y", text(9)[8:])
    before = snapshot(pages)
    with pytest.raises(
        ValueError, match="'y' counts on pages that 'x' has yet to write; confirm them together"
    ):
        pages.confirm("y")
    assert snapshot(pages) == before
    pages.confirm("x")
    pages.confirm("y")


def test_pages_confirmed_stay_cached_when_later_ones_are_taken_back():
    pages = pool()
    begin(pages, "x", text(9))
    pages.append("x", text(8, 109))
    pages.free("x")
    assert pages.stats().cached == 2
    assert pages.cached_tokens(text(17)) == 8


def test_a_copy_of_a_page_still_to_be_written_is_refused():
    pages = pool()
    pages.admit("x", text(9))
    pages.append("x", text(9))
    pages.admit("y", text(9))
    pages.truncate("y", 7)
    before = snapshot(pages)
    for call in (pages.append_anonymous, pages.can_append, pages.pages_needed):
        with pytest.raises(ValueError, match="'y' would copy a page before it is written"):
            call("y", 1)
    assert snapshot(pages) == before
    pages.confirm("x")
    assert pages.append_anonymous("y", 1) == [(1, 3)]


# Taking back tokens


def test_truncate_gives_pages_back_and_keeps_what_is_written_cached():
    pages = pool()
    begin(pages, "x", text(15))
    assert pages.truncate("x", 5) == []
    assert (pages.length("x"), len(pages.table("x")), pages.stats().cached) == (5, 2, 1)
    assert pages.cached_tokens(text(15)) == 12
    pages.truncate("x", 4)
    assert pages.stats().cached == 2
    assert pages.cached_tokens(text(15)) == 12


def test_a_page_that_will_be_overwritten_loses_its_key():
    pages = pool()
    begin(pages, "x", text(8))
    pages.truncate("x", 6)
    assert pages.append("x", [1]) == []
    pages.confirm("x")
    assert pages.cached_tokens([*text(8), 1]) == 4
    pages.append("x", [2])
    assert pages.cached_tokens([*text(6), 1, 2, 3]) == 8


def test_a_page_that_others_use_is_copied_before_it_is_overwritten():
    pages = pool()
    begin(pages, "x", text(8))
    begin(pages, "y", text(9))
    pages.truncate("x", 6)
    assert pages.append("x", [1]) == [(1, 3)]
    assert pages.cached_tokens(text(9)) == 8


def test_truncate_and_the_same_tokens_again():
    pages = pool()
    begin(pages, "x", text(15))
    for length in (14, 13, 12, 11, 8, 7, 1, 0):
        pages.truncate("x", length)
        assert pages.length("x") == length
        pages.append("x", text(15)[length:])
        pages.confirm("x")
        assert pages.cached_tokens(text(15)) == 12, length


def test_truncate_within_the_last_page_and_other_tokens():
    pages = pool()
    begin(pages, "x", text(7))
    pages.truncate("x", 5)
    pages.append("x", text(3, 300))
    pages.confirm("x")
    assert pages.cached_tokens([*text(5), *text(3, 300), 1]) == 8
    assert pages.cached_tokens([*text(7), 300, 1]) == 4


def test_what_is_appended_after_truncate_is_unwritten_again():
    pages = pool()
    begin(pages, "x", text(8))
    pages.truncate("x", 4)
    pages.append("x", text(4, 300))
    pages.rollback("x")
    assert pages.length("x") == 4
    assert pages.cached_tokens([*text(4), *text(4, 300), 1]) == 4


@pytest.mark.parametrize("length", [-1, 7])
def test_truncate_only_shortens(length):
    pages = pool()
    begin(pages, "x", text(6))
    with pytest.raises(ValueError, match=f"'x' has 6 tokens, cannot keep {length}"):
        pages.truncate("x", length)


# Refusals


def test_out_of_pages_says_how_many_and_changes_nothing():
    pages = pool(4)
    begin(pages, "x", text(6))
    begin(pages, "y", text(5, 500))
    pages.free("y")
    before = snapshot(pages)
    assert pages.can_append("x", 10)
    assert not pages.can_append("x", 11)
    with pytest.raises(OutOfPages, match=r"'x' needs 3 more pages, 2 of the pool's 4 are free") as error:
        pages.append("x", text(11))
    assert (error.value.needed, error.value.free) == (3, 2)
    assert snapshot(pages) == before
    pages.append("x", text(10))
    assert pages.num_free == 0


def test_a_copy_needs_a_page_as_well():
    pages = pool(2)
    begin(pages, "x", text(6))
    pages.fork("x", "y")
    before = snapshot(pages)
    with pytest.raises(OutOfPages, match="needs 1 more"):
        pages.append("y", [1])
    assert snapshot(pages) == before
    pages.free("x")
    assert pages.append("y", [1]) == []


def test_a_freed_request_is_gone():
    pages = pool()
    begin(pages, "x", text(6))
    pages.free("x")
    before = snapshot(pages)
    for use in (
        lambda: pages.free("x"),
        lambda: pages.append("x", [1]),
        lambda: pages.can_append("x", 1),
        lambda: pages.pages_needed("x", 1),
        lambda: pages.length("x"),
        lambda: pages.table("x"),
        lambda: pages.slots("x", 0, 1),
        lambda: pages.truncate("x", 0),
        lambda: pages.rollback("x"),
        lambda: pages.confirm("x"),
        lambda: pages.fork("x", "y"),
    ):
        with pytest.raises(ValueError, match="no request 'x' here"):
            use()
    assert snapshot(pages) == before
    begin(pages, "x", text(6))


def test_what_is_refused_changes_nothing():
    pages = pool()
    begin(pages, "x", text(6))
    begin(pages, "y", text(6))
    pages.append("y", text(6, 106))
    before = snapshot(pages)
    for use, words in (
        (lambda: pages.admit("x", text(3)), "'x' is here already"),
        (lambda: pages.fork("x", "y"), "'y' is here already"),
        (lambda: pages.fork("x", "x"), "'x' is here already"),
        (lambda: pages.append_anonymous("x", -1), "0 or more, got -1"),
        (lambda: pages.append_anonymous("x", True), "must be a whole number, got True"),
        (lambda: pages.append_anonymous("x", 1.0), "must be a whole number, got 1.0"),
        (lambda: pages.append("x", 7), "expected a list of token ids, got 7"),
        (lambda: pages.admit("z", [-1]), "whole numbers from 0"),
        (lambda: pages.admit("z", ["x"]), "must be a whole number, got 'x'"),
        (lambda: pages.admit("z", [1.5]), "must be a whole number, got 1.5"),
        (lambda: pages.redeem("x", pages.offer([1])), "'x' is here already"),
        (pages.reset, "2 requests hold pages"),
        (lambda: pages.pages_needed("x", -1), "0 or more, got -1"),
        (lambda: pages.append("x", [1.0]), "must be a whole number, got 1.0"),
        (lambda: pages.append("x", [1, -1]), "whole numbers from 0"),
        (lambda: pages.append("x", [1 << 32]), "whole numbers from 0"),
        (lambda: pages.append("x", "ab"), "must be a whole number"),
        (lambda: pages.admit("z", [*"abcde"]), "must be a whole number"),
        (lambda: pages.admit("z", [1], salt=[]), "a salt must be hashable, such as a string; got list"),
        (lambda: pages.cached_tokens([1], salt={}), "a salt must be hashable"),
        (lambda: pages.confirm("x", "z"), "no request 'z'"),
        (lambda: pages.confirm("y", "z"), "no request 'z'"),
        (lambda: pages.rollback("y", "z"), "no request 'z'"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            use()
        assert snapshot(pages) == before


@pytest.mark.parametrize("sizes", [(0, 16), (4, 0), (-1, 16)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        PagePool(*sizes)


def test_keys_and_links_stay_bounded():
    pages = pool(8)
    for i in range(200):
        begin(pages, i, text(20, i * 1000))
        pages.free(i)
    assert pages.stats().cached <= 8
    assert pages.stats().evictions > 900


# Any sequence of calls


class Machine(RuleBasedStateMachine):
    """The pool beside a memory in which every slot remembers the text that was written up to it.

    A text is one number: `self.texts[text before, token]`. `chain[name][i]` is the text of a request up to token `i`.
    """

    page_size, num_pages = 1, 6

    @initialize(sharing=st.sampled_from((True, True, True, False)))
    def start(self, sharing):
        self.pool = PagePool(self.num_pages, self.page_size, sharing)
        self.memory = [None] * (self.num_pages * self.page_size)
        self.texts, self.chain, self.tokens, self.salt, self.written, self.todo = {}, {}, {}, {}, {}, {}
        self.seen, self.names, self.freed = [[]], 0, []

    # What the naive side knows

    def extend(self, name, tokens):
        for token in tokens:
            before = self.chain[name][-1] if self.chain[name] else ("salt", self.salt[name])
            self.chain[name].append(self.texts.setdefault((before, token), len(self.texts)))
            self.tokens[name].append(token)

    def slot(self, name, i):
        return self.pool.table(name)[i // self.page_size] * self.page_size + i % self.page_size

    def holds(self, name, i):
        """Whether token `i` of a request is in memory."""
        return self.memory[self.slot(name, i)] == self.chain[name][i]

    def writers(self, name, i):
        """The requests whose step will write token `i` of this one."""
        place, want = self.slot(name, i), self.chain[name][i]
        return {
            other
            for other, chain in self.chain.items()
            if self.written[other] <= i < len(chain) and chain[i] == want and self.slot(other, i) == place
        }

    def awaited(self, name):
        """The requests that must write before this one's history is in memory."""
        return {
            w for i in range(self.written[name]) if not self.holds(name, i) for w in self.writers(name, i)
        }

    def forget(self, name, length):
        for row in (self.chain[name], self.tokens[name]):
            del row[length:]
        self.written[name] = min(self.written[name], length)
        self.todo[name] = []

    def follow(self, named, wanted, lost):
        """Cuts the naive side as the pool did, and checks that it cut what it had to and no more."""
        assert len(lost) == len(set(lost))
        assert not set(lost) & set(named)
        for name in self.chain:
            have, was = self.pool.length(name), len(self.chain[name])
            if name in named:
                assert have <= wanted[name]
            else:
                assert (have < was) == (name in lost), name
            if have < wanted.get(name, was):
                assert have % self.page_size == 0
                assert (name, have) in self.unwritten, "cut back to before a page that now stays unwritten"
            if have < was:
                self.forget(name, have)

    def note_unwritten(self):
        """Where each request's history has pages that another one's step would write."""
        self.unwritten = {
            (name, i - i % self.page_size)
            for name in self.chain
            for i in range(self.written[name])
            if not self.holds(name, i)
        }

    def refused(self, error, call, *args):
        before = snapshot(self.pool)
        with pytest.raises(error):
            call(*args)
        assert snapshot(self.pool) == before

    def pick(self, data, **options):
        return data.draw(st.sampled_from(list(self.chain)), **options)

    # What may happen

    @rule(data=st.data(), salt=st.sampled_from((None, None, None, "a")))
    def admit(self, data, salt):
        seen = data.draw(st.sampled_from(self.seen))
        keep = data.draw(st.integers(0, len(seen)) | st.just(len(seen)))
        more = data.draw(st.lists(st.integers(0, 1), max_size=2 * self.page_size))
        prompt = [token for token in seen[:keep] if isinstance(token, int)] + more
        self.begin(prompt[: self.num_pages * self.page_size], salt)

    @rule(data=st.data(), salt=st.sampled_from((None, None, None, "a")))
    def serve(self, data, salt):
        """A prompt seen before is admitted and computed, whatever else is under way; that makes copies of texts."""
        prompt = [token for token in data.draw(st.sampled_from(self.seen)) if isinstance(token, int)]
        name = self.begin(prompt[: self.num_pages * self.page_size], salt)
        self.extend_pool(name, self.todo[name], self.todo[name])
        self.succeed(list(self.chain))

    def begin(self, prompt, salt):
        name, self.names = self.names, self.names + 1
        before = snapshot(self.pool)
        probe, gone = self.pool.cached_tokens(prompt, salt), self.pool.pages_to_admit(prompt, salt)
        assert snapshot(self.pool) == before
        free = self.pool.num_free
        cached = self.pool.admit(name, prompt, salt)
        assert cached == probe <= max(0, len(prompt) - 1)
        assert cached % self.page_size == 0
        assert cached == 0 or self.pool.sharing
        new = -(-len(prompt) // self.page_size) - cached // self.page_size
        assert free - self.pool.num_free + new == gone
        self.chain[name], self.tokens[name], self.salt[name] = [], [], salt
        self.extend(name, prompt[:cached])
        self.written[name], self.todo[name] = cached, prompt[cached:]
        self.seen.append(prompt)
        return name

    @precondition(lambda self: self.chain)
    @rule(data=st.data())
    def append(self, data):
        name = self.pick(data)
        n = data.draw(st.integers(0, 2 * self.page_size + 1))
        anonymous = False
        if self.todo[name] and data.draw(st.booleans() | st.just(True)):
            n = len(self.todo[name]) if data.draw(st.booleans()) else min(n, len(self.todo[name]))
            tokens = self.todo[name][:n]
        elif data.draw(st.integers(0, 9)) == 0:
            tokens, anonymous = [("anonymous", self.names, len(self.texts), i) for i in range(n)], True
        else:
            tokens = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
        self.extend_pool(name, tokens, n if anonymous else tokens)

    def extend_pool(self, name, tokens, argument):
        n = len(tokens)
        extend = self.pool.append_anonymous if isinstance(argument, int) else self.pool.append
        table, length = self.pool.table(name), self.pool.length(name)
        shared = (
            bool(length % self.page_size and n)
            and sum(table[-1] in self.pool.table(o) for o in self.chain) > 1
        )
        if shared and any(
            not self.holds(o, i)
            for o in self.chain
            if table[-1] in self.pool.table(o)
            for i in range(len(self.chain[o]))
            if self.pool.table(o)[i // self.page_size] == table[-1]
        ):
            return self.refused(ValueError, extend, name, argument)
        needed = -(-(length + n) // self.page_size) - len(table) + shared
        free = self.pool.num_free
        assert self.pool.pages_needed(name, n) == needed
        assert self.pool.can_append(name, n) == (needed <= free)
        if needed > free:
            return self.refused(OutOfPages, extend, name, argument)
        copies = extend(name, argument)
        taken = self.pool.last_taken
        assert len(taken) == len(set(taken)) == needed == free - self.pool.num_free
        for page in taken:
            self.page(page, [None] * self.page_size)
        assert copies == ([(table[-1], taken[0])] if shared else [])
        for source, target in copies:
            self.page(target, self.page(source))
        after = self.pool.table(name)
        kept = len(table) - shared
        assert after[:kept] == table[:kept], "a table only grows, but for a copied page"
        assert after[kept:] == tuple(taken)
        self.extend(name, tokens)
        self.todo[name] = self.todo[name][n:] if tokens == self.todo[name][:n] else []
        self.seen.append(self.tokens[name][:])

    def page(self, page, content=None):
        where = slice(page * self.page_size, (page + 1) * self.page_size)
        if content is not None:
            self.memory[where] = content
        return self.memory[where]

    @precondition(lambda self: self.chain)
    @rule(data=st.data(), everyone=st.booleans())
    def step_succeeds(self, data, everyone):
        names = (
            list(self.chain)
            if everyone
            else data.draw(st.lists(st.sampled_from(list(self.chain)), max_size=3))
        )
        self.succeed(names)

    def succeed(self, names):
        if any(not self.awaited(name) <= set(names) for name in names):
            return self.refused(ValueError, self.pool.confirm, *names)
        self.pool.confirm(*names)
        for name in names:
            for i in range(self.written[name], len(self.chain[name])):
                self.memory[self.slot(name, i)] = self.chain[name][i]
            self.written[name] = len(self.chain[name])

    @precondition(lambda self: self.chain)
    @rule(data=st.data(), everyone=st.booleans())
    def step_fails(self, data, everyone):
        names = (
            list(self.chain)
            if everyone
            else data.draw(st.lists(st.sampled_from(list(self.chain)), max_size=2))
        )
        self.note_unwritten()
        lost = self.pool.rollback(*names)
        self.follow(names, {name: self.written[name] for name in names}, lost)

    @precondition(lambda self: self.chain)
    @rule(data=st.data())
    def truncate(self, data):
        name = self.pick(data)
        length = data.draw(st.integers(0, len(self.chain[name])))
        self.note_unwritten()
        lost = self.pool.truncate(name, length)
        assert self.pool.length(name) == length
        self.follow([name], {name: length}, lost)
        self.refused(ValueError, self.pool.truncate, name, length + 1)

    @precondition(lambda self: self.chain)
    @rule(data=st.data())
    def fork(self, data):
        parent = self.pick(data)
        name, self.names = self.names, self.names + 1
        if self.written[parent] < len(self.chain[parent]) or self.awaited(parent):
            return self.refused(ValueError, self.pool.fork, parent, name)
        free = self.pool.num_free
        self.pool.fork(parent, name)
        assert self.pool.num_free == free
        assert self.pool.table(name) == self.pool.table(parent)
        self.chain[name], self.tokens[name] = self.chain[parent][:], self.tokens[parent][:]
        self.salt[name], self.written[name], self.todo[name] = self.salt[parent], self.written[parent], []

    @precondition(lambda self: self.chain)
    @rule(data=st.data())
    def free(self, data):
        name = self.pick(data)
        self.note_unwritten()
        lost = self.pool.free(name)
        for rows in (self.chain, self.tokens, self.salt, self.written, self.todo):
            del rows[name]
        self.follow([], {}, lost)
        self.freed = [*self.freed[-3:], name]

    @precondition(lambda self: self.freed)
    @rule(data=st.data())
    def use_after_free(self, data):
        name = data.draw(st.sampled_from(self.freed))
        for call in (self.pool.free, self.pool.table, self.pool.confirm, self.pool.rollback):
            self.refused(ValueError, call, name)
        self.refused(ValueError, self.pool.append, name, [1])

    # What must always hold

    @invariant()
    def every_token_is_written_or_about_to_be(self):
        for name, chain in self.chain.items():
            assert self.pool.length(name) == len(chain)
            assert len(self.pool.table(name)) == -(-len(chain) // self.page_size)
            assert self.pool.slots(name, 0, len(chain)) == [self.slot(name, i) for i in range(len(chain))]
            for i in range(len(chain)):
                if i < self.written[name] and not self.holds(name, i):
                    assert self.writers(name, i), f"token {i} of {name}: nobody has written it, nobody will"

    def known(self, name):
        """A request's tokens up to the first anonymous one."""
        tokens = self.tokens[name]
        return tokens[
            : next((i for i, token in enumerate(tokens) if not isinstance(token, int)), len(tokens))
        ]

    def will_hold(self, page, content):
        """Whether a page holds a text, or a request holds the page for that text and has yet to write it."""
        if self.page(page) == content:
            return True
        size = self.page_size
        return any(
            page in self.pool.table(name)
            and (i := self.pool.table(name).index(page) * size) + size > self.written[name]
            and chain[i : i + size] == content
            for name, chain in self.chain.items()
        )

    @invariant()
    def what_is_offered_holds_the_text(self):
        for name in self.chain:
            tokens = self.known(name)
            offer = self.pool.offer([*tokens, 0], self.salt[name])
            assert offer.num_cached == len(offer.pages) * self.page_size <= len(tokens)
            for i, page in enumerate(offer.pages):
                where = slice(i * self.page_size, (i + 1) * self.page_size)
                assert self.will_hold(page, self.chain[name][where])

    @invariant()
    def a_text_that_a_request_holds_is_found(self):
        for name in self.chain if self.pool.sharing else ():
            whole = min(len(self.known(name)), self.written[name]) // self.page_size * self.page_size
            offer = self.pool.offer([*self.known(name)[:whole], 0], self.salt[name])
            assert offer.num_cached == whole or self.awaited(name), name

    @invariant()
    def every_cached_page_can_be_found(self):
        before = {text: key for key, text in self.texts.items()}
        for page in self.pool.cached_pages():
            text, tokens = self.page(page)[-1], []
            assert text is not None, "a cached page is written"
            while text in before:
                text, token = before[text]
                tokens.insert(0, token)
            offer = self.pool.offer([*tokens, 0], text[1])
            assert page in offer.pages, "it would be evicted without ever being of use"

    @invariant()
    def pages_are_counted(self):
        tables = [self.pool.table(name) for name in self.chain]
        named = [page for table in tables for page in table]
        stats, cached = self.pool.stats(), self.pool.cached_pages()
        assert all(len(set(table)) == len(table) for table in tables)
        assert [self.pool.refs(p) for p in range(self.num_pages)] == [
            named.count(p) for p in range(self.num_pages)
        ]
        assert not set(cached) & set(named)
        assert len(set(cached)) == len(cached) == stats.cached
        used = len(set(named))
        assert (stats.used, stats.free) == (used, self.num_pages - used)
        assert (self.pool.num_used, self.pool.num_free) == (stats.used, stats.free)
        assert stats.shared == sum(named.count(page) > 1 for page in set(named))
        assert stats.used <= stats.peak_used
        filled = {self.slot(name, i) for name, chain in self.chain.items() for i in range(len(chain))}
        assert stats.wasted_slots == len(set(named)) * self.page_size - len(filled)

    @invariant()
    def tables_share_a_page_only_for_the_same_text(self):
        ends = {}
        for name, chain in self.chain.items():
            for i in range(len(chain)):
                assert ends.setdefault((self.slot(name, i), i), chain[i]) == chain[i]


class Machine3(Machine):
    page_size, num_pages = 3, 7


class Machine16(Machine):
    page_size, num_pages = 16, 5


for machine, examples in ((Machine, 180), (Machine3, 240), (Machine16, 80)):
    machine.TestCase.settings = settings(max_examples=examples, stateful_step_count=40, deadline=None)
TestPageSize1, TestPageSize3, TestPageSize16 = Machine.TestCase, Machine3.TestCase, Machine16.TestCase
