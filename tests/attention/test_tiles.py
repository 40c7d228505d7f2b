"""Which keys a query sees, and which tiles are computed: held against the definition, pair by pair."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention import Tile, Tiling, Visibility

SEEN = st.builds(
    Visibility,
    st.integers(1, 14),
    st.integers(0, 14),
    st.booleans(),
    st.none() | st.integers(1, 16),
)
TILING = st.builds(Tiling, st.integers(1, 6), st.integers(1, 6))
CPU = torch.device("cpu")


def sees(seen, query, key):
    """The definition: the last query stands at the last key."""
    place = query + seen.kv_len - seen.q_len
    near = seen.window is None or abs(key - place) < seen.window
    return near and (key <= place or not seen.causal)


def pairs(seen, tile):
    """Whether each query of a tile sees each of its keys."""
    return [
        sees(seen, i, j) for i in range(tile.q_start, tile.q_end) for j in range(tile.k_start, tile.k_end)
    ]


@settings(deadline=None)
@given(SEEN)
def test_a_query_sees_a_span_of_keys(seen):
    for query in range(seen.q_len):
        span = range(seen.first(query), seen.end(query))
        assert list(span) == [key for key in range(seen.kv_len) if sees(seen, query, key)]


@settings(deadline=None)
@given(SEEN, TILING)
def test_every_score_is_in_one_tile_and_every_tile_is_of_its_kind(seen, tiling):
    found = torch.zeros(seen.q_len, seen.kv_len)
    for tile in tiling.all_tiles(seen):
        found[tile.q_start : tile.q_end, tile.k_start : tile.k_end] += 1
        visible = pairs(seen, tile)
        assert tile.kind == ("full" if all(visible) else "masked" if any(visible) else "skipped")
        assert (~seen.hidden(tile, CPU)).flatten().tolist() == visible
    assert (found == 1).all()


@settings(deadline=None)
@given(SEEN, TILING)
def test_tiles_are_counted_without_looking_at_each(seen, tiling):
    counted = {"skipped": 0, "masked": 0, "full": 0}
    for tile in tiling.all_tiles(seen):
        counted[tile.kind] += 1
    assert tiling.count(seen) == counted


@settings(deadline=None)
@given(SEEN, TILING)
def test_what_is_visited_is_what_some_query_of_the_block_sees(seen, tiling):
    for q_start, q_end in tiling.query_tiles(seen.q_len):
        needed = [t for t in tiling.row(seen, q_start, q_end) if t.kind != "skipped"]
        visited = list(tiling.visited(seen, q_start, q_end))
        assert tiling.num_visited(seen, q_start, q_end) == len(visited)
        assert visited == [seen.clip(tile) for tile in needed]
        keys = [key for tile in visited for key in range(tile.k_start, tile.k_end)]
        assert keys == [j for j in range(seen.kv_len) if any(sees(seen, i, j) for i in range(q_start, q_end))]
        for tile in visited:
            assert tile.kind == ("full" if all(pairs(seen, tile)) else "masked")


@settings(deadline=None)
@given(SEEN, TILING, st.integers(0, 14), st.integers(0, 14))
def test_parts_of_the_keys_are_visited_apart(seen, tiling, cut, other):
    cuts = [0, *sorted(min(c, seen.kv_len) for c in (cut, other)), seen.kv_len]
    for q_start, q_end in tiling.query_tiles(seen.q_len):
        whole = [tile[2:4] for tile in tiling.visited(seen, q_start, q_end)]
        parts = [tile for keys in pairwise(cuts) for tile in tiling.visited(seen, q_start, q_end, keys)]
        assert all(tile.k_start < tile.k_end for tile in parts)
        assert [k for t in parts for k in range(*t[2:4])] == [k for span in whole for k in range(*span)]


def test_numbers_of_a_causal_prompt():
    seen, tiling = Visibility(8, 8), Tiling(2, 2)
    assert tiling.count(seen) == {"skipped": 6, "masked": 4, "full": 6}
    assert next(tiling.all_tiles(seen)) == Tile(0, 2, 0, 2, "masked")
    assert tiling.count(Visibility(1, 1000, window=100)) == {"skipped": 450, "masked": 0, "full": 50}


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "4", None])
def test_a_block_is_a_whole_number_from_1(size):
    for sizes in ((size, 1), (1, size)):
        with pytest.raises(ValueError, match="_block is a whole number from 1"):
            Tiling(*sizes)
