"""RequestPages: slots follow the table; a fork has a table of its own; a text may be forgotten down to any length."""

import dataclasses

import pytest

from helpers.caches import PageIndex, RequestPages, packed

SIZE, START = 4, ("salt",)
TEXT = list(range(10, 24))


def request(table=(7, 2, 5), length=10):
    return RequestPages("x", list(table), START, START, length=length)


def known(num_tokens):
    """A request of so many known tokens, and the index that its full pages are entered in."""
    full = num_tokens // SIZE
    table = [7, 2, 5, 9][: -(-num_tokens // SIZE)]
    index = PageIndex(10, SIZE)
    account = RequestPages(
        "x", table, START, START, num_tokens, packed(TEXT[full * SIZE : num_tokens]), num_tokens
    )
    if full:
        account.prefix_id = index.enter(table, 0, START, packed(TEXT[: full * SIZE]))
    return account, index


@pytest.mark.parametrize("start", range(11))
def test_slots_follow_the_table(start):
    each = [28, 29, 30, 31, 8, 9, 10, 11, 20, 21]
    for stop in range(start, 11):
        assert request().slots(start, stop, SIZE) == each[start:stop]


def test_slots_of_single_slot_pages_are_the_table():
    assert request((3, 1, 2), 3).slots(0, 3, 1) == [3, 1, 2]
    assert request((3, 1, 2), 3).slots(1, 2, 1) == [1]


def test_a_fork_is_equal_and_apart():
    parent, _ = known(10)
    parent.written, parent.num_hit_pages = 9, 1
    child = parent.fork("y")
    assert (parent.name, child.name) == ("x", "y")
    for field in dataclasses.fields(RequestPages)[1:]:
        assert getattr(child, field.name) == getattr(parent, field.name), field.name
    child.table.append(1)
    child.length = 13
    assert (parent.table, parent.length) == ([7, 2, 5], 10)


def test_requests_are_told_apart_even_if_they_are_alike():
    parent = request()
    assert len({parent, parent.fork("x")}) == 2


@pytest.mark.parametrize("num_tokens", range(1, 15))
def test_a_text_may_be_forgotten_down_to_any_length(num_tokens):
    """What is known afterwards is what would be known of the shorter text."""
    for length in range(num_tokens):
        account, index = known(num_tokens)
        account.forget_text(length, index, SIZE)
        full = length // SIZE
        assert account.num_known == length
        assert account.tail == packed(TEXT[full * SIZE : length])
        want = index.match(packed(TEXT[: full * SIZE]), START)
        assert (account.table[:full], account.prefix_id) == want
        assert account.length == num_tokens, "the tokens are still there, and only their text is forgotten"


@pytest.mark.parametrize("length", [4, 8])
def test_a_text_may_be_forgotten_at_a_page_that_was_withdrawn(length):
    account, index = known(12)
    for page in account.table[length // SIZE :]:
        index.drop(page)
    account.forget_text(length, index, SIZE)
    assert (account.num_known, account.tail) == (length, b"")
    assert account.prefix_id == index.prefix_id(account.table[length // SIZE - 1])


def test_a_text_of_which_every_page_was_withdrawn_starts_at_its_salt():
    account, index = known(12)
    for page in account.table:
        index.drop(page)
    account.forget_text(0, index, SIZE)
    assert (account.num_known, account.tail, account.prefix_id) == (0, b"", START)


def test_what_follows_a_forgotten_end_is_entered_behind_it():
    account, index = known(12)
    account.forget_text(6, index, SIZE)
    index.enter([7, 0], 1, account.prefix_id, account.tail + packed([1, 2]))
    assert index.match(packed([*TEXT[:6], 1, 2]), START)[0] == [7, 0]
