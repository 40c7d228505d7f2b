"""PageIndex: which page holds which text; a duplicate takes the key over; what can be found through a text alone."""

import random

import pytest

from helpers.caches import PageIndex, packed

SIZE = 2
START = ("salt",)


def index(num_pages=12):
    return PageIndex(num_pages, SIZE)


def text(*pages):
    """A packed text of whole pages, each named by a number."""
    return packed([token for page in pages for token in (page, page + 100)])


def found(of, *pages, prefix_id=START):
    return of.match(text(*pages), prefix_id)[0]


def test_an_empty_index_finds_nothing():
    pages = index()
    assert pages.match(text(1, 2), START) == ([], START)
    assert pages.match(b"", START) == ([], START)
    assert (len(pages), pages.text(3), pages.drop(3)) == (0, None, None)


def test_a_text_is_found_page_by_page_as_far_as_it_is_known():
    pages = index()
    end = pages.enter([5, 3, 9], 0, START, text(1, 2, 3))
    assert pages.match(text(1, 2, 3), START) == ([5, 3, 9], end)
    assert pages.match(text(1, 2, 3, 4), START) == ([5, 3, 9], end)
    assert found(pages, 1, 2, 4) == [5, 3]
    assert found(pages, 2, 3) == [], "a page is found behind its own beginning only"
    assert found(pages, 1, 3) == [5]
    assert (len(pages), end) == (3, pages.prefix_id(9))


def test_a_match_goes_on_from_the_id_of_an_earlier_one():
    pages = index()
    pages.enter([5, 3, 9], 0, START, text(1, 2, 3))
    first, middle = pages.match(text(1), START)
    rest, end = pages.match(text(2, 3), middle)
    assert (first, rest) == ([5], [3, 9])
    assert end == pages.match(text(1, 2, 3), START)[1]


def test_a_text_is_entered_in_parts():
    pages = index()
    middle = pages.enter([5], 0, START, text(1))
    end = pages.enter([5, 3, 9], 1, middle, text(2, 3))
    assert pages.match(text(1, 2, 3), START) == ([5, 3, 9], end)
    assert pages.text(3) == (middle, text(2))


def test_texts_that_part_are_each_found_however_often_they_take_turns():
    pages = index()
    ends = {}
    for other in (7, 8, 9):
        before = pages.enter([0], 0, START, text(1)) if other == 7 else pages.prefix_id(0)
        ends[other] = pages.enter([0, other], 1, before, text(other))
    assert len(set(ends.values())) == 3
    for other in (7, 8, 9, 8, 7, 7, 9):
        assert pages.match(text(1, other), START) == ([0, other], ends[other])


def test_salts_are_apart():
    pages = index()
    for page, salt in enumerate((("a",), ("b",), (None,))):
        pages.enter([page], 0, salt, text(1))
    want = {("a",): [0], ("b",): [1], (None,): [2], ("c",): []}
    assert {salt: found(pages, 1, prefix_id=salt) for salt in want} == want


def test_a_second_page_of_a_text_is_a_duplicate():
    pages = index()
    end = pages.enter([0, 1], 0, START, text(1, 2))
    assert pages.enter([4, 5], 0, START, text(1, 2)) == end, "the same text has the same id"
    assert found(pages, 1, 2) == [0, 1]
    assert list(pages.duplicates) == [4, 5]
    assert pages.text(5) == pages.text(1)
    assert pages.prefix_id(5) == end
    assert len(pages) == 2


def test_what_follows_a_duplicate_is_found_behind_the_found_page():
    pages = index()
    pages.enter([0, 1], 0, START, text(1, 2))
    middle = pages.enter([4], 0, START, text(1))
    pages.enter([4, 6], 1, middle, text(3))
    assert found(pages, 1, 3) == [0, 6]


def test_duplicates_take_over_one_after_the_other():
    pages = index()
    for page in (0, 4, 7):
        pages.enter([page], 0, START, text(1))
    end = pages.enter([0, 1], 1, pages.prefix_id(0), text(2))
    assert pages.drop(0) == 4
    assert pages.match(text(1, 2), START) == ([4, 1], end), "what followed the page still follows its text"
    assert (list(pages.duplicates), pages.text(0)) == ([7], None)
    assert pages.drop(4) == 7
    assert pages.drop(7) is None
    assert found(pages, 1, 2) == []


def test_a_duplicate_that_is_dropped_takes_nothing_over():
    pages = index()
    for page in (0, 4):
        pages.enter([page], 0, START, text(1))
    assert pages.drop(4) is None
    assert (found(pages, 1), pages.duplicates) == ([0], {})
    assert pages.drop(0) is None
    assert found(pages, 1) == []


def test_an_id_is_never_given_twice():
    """What followed a page that is gone does not follow the page's next text, nor the same text anew."""
    pages = index()
    pages.enter([0, 1], 0, START, text(1, 2))
    pages.drop(0)
    pages.enter([0], 0, START, text(9))
    assert found(pages, 9, 2) == [0]
    pages.enter([3], 0, START, text(1))
    assert found(pages, 1, 2) == [3]
    assert pages.text(1) is not None, "the page still has its key; no text leads to it"


def test_after_gives_what_is_found_through_a_text_alone():
    pages = index()
    pages.enter([0, 1, 2], 0, START, text(1, 2, 3))
    pages.enter([0, 1, 6], 2, pages.prefix_id(1), text(4))
    pages.enter([8, 9], 0, START, text(5, 2))
    known = [2, 9, 6, 1, 8, 0]
    assert sorted(pages.after(pages.prefix_id(0), known)) == [1, 2, 6]
    assert sorted(pages.after(pages.prefix_id(1), known)) == [2, 6]
    assert pages.after(pages.prefix_id(2), known) == []
    assert pages.after(pages.prefix_id(8), known) == [9]
    assert sorted(pages.after(START, known)) == [0, 1, 2, 6, 8, 9]
    assert pages.after(pages.prefix_id(0), [2, 6]) == [], "the page between is not among those asked about"


def reachable(of, holders):
    """Whether some page holds each shorter beginning of a text."""
    return all(holders.get(of[:n]) for n in range(1, len(of)))


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_equals_a_dictionary_of_whole_texts(seed):
    """The model: for each text of whole pages, the pages that hold it, the found one first."""
    rng, pages, holders = random.Random(seed), index(8), {}
    text_of: dict[int, tuple[int, ...]] = {}
    for _ in range(200):
        page = rng.randrange(8)
        if page in text_of:
            known = holders[text_of.pop(page)]
            heir = known[1] if known[0] == page and len(known) > 1 else None
            assert pages.drop(page) == heir
            known.remove(page)
            if not known:  # what follows a text that is gone can no longer be found
                for other in [p for p, t in text_of.items() if not reachable(t, holders)]:
                    pages.drop(other)
                    holders[text_of[other]].remove(other)
                    del text_of[other]
            continue
        before = rng.choice([(), *text_of.values()])
        new = (*before, rng.randrange(2))
        prefix_id = pages.prefix_id(holders[before][0]) if before else START
        pages.enter([page], 0, prefix_id, text(new[-1]))
        text_of[page] = new
        holders.setdefault(new, []).append(page)
        for known in text_of.values():
            assert found(pages, *known) == [holders[known[:n]][0] for n in range(1, len(known) + 1)]
        assert len(pages) == sum(map(bool, holders.values()))
