"""Block tables in the forms that attention asks for, by hand."""

import pytest
import torch

from helpers.ops import BlockTables


def three():
    """Pages of 4 tokens: one sequence in scattered pages, one in neighbouring ones, one shorter than its table."""
    return BlockTables([[7, 2, 5], [3, 4], [9, 8, 1]], [10, 8, 5], 4)


def test_pages_beyond_a_length_are_left_out():
    tables = three()
    assert len(tables) == 3
    assert [list(table) for table in tables.tables] == [[7, 2, 5], [3, 4], [9, 8]]
    assert [pages.tolist() for pages in tables.pages] == [[7, 2, 5], [3, 4], [9, 8]]
    assert {pages.dtype for pages in tables.pages} == {torch.int64}


def test_one_matrix_holds_all_tables():
    padded = three().padded
    assert padded.dtype == torch.int32
    assert padded.tolist() == [[7, 2, 5], [3, 4, 0], [9, 8, 0]]


def test_each_token_has_its_slot():
    slots = three().slots
    assert slots.dtype == torch.int64
    first = [28, 29, 30, 31, 8, 9, 10, 11, 20, 21]
    assert slots.tolist() == [*first, *range(12, 20), 36, 37, 38, 39, 32]


def test_neighbouring_pages_are_known_by_their_first_slot():
    assert three().neighbours == [None, 12, None]
    assert BlockTables([[6]], [1], 4).neighbours == [24], "one page is its own neighbour"


def test_many_queries_and_neighbouring_pages_attend_alone():
    tables = BlockTables([[7, 2], [3, 4], [9, 8], [1, 6]], [8, 8, 5, 6], 4)
    alone, families = tables.split([0, 1, 2, 5, 6])
    assert alone == [1, 2]
    assert [family.rows.tolist() for family in families] == [[0, 5]]
    assert tables.split([0, 3, 4, 5, 6])[0] == [0, 1], "other queries are split anew"
    assert tables.split((0, 1, 2, 5, 6))[0] == alone


def test_alone_there_are_no_families():
    assert BlockTables([[3, 4]], [5], 4).split([0, 1]) == ([0], [])


@pytest.mark.parametrize(
    ("tables", "lengths", "words"),
    [
        ([[1, 2]], [9], "9 tokens do not lie in 2 pages of 4"),
        ([[1, 2], []], [8, 1], "1 tokens do not lie in 0 pages of 4"),
        ([[1]], [0], "0 tokens do not lie in 1 pages of 4"),
        ([[1], [2]], [1], "2 tables, 1 lengths"),
    ],
)
def test_what_does_not_fit_is_refused(tables, lengths, words):
    with pytest.raises(ValueError, match=words):
        BlockTables(tables, lengths, 4)
