"""Tiles fit the buffers of a chip or do not, and the best tiling is the one that moves least."""

import pytest
from hypothesis import given, settings

from helpers.attention import (
    BLOCKS,
    AttentionSize,
    Tiling,
    best_tiling,
    cube_share,
    fits,
    handover_traffic,
    needs,
    tiled_traffic,
    workspace,
)
from helpers.estimates import ACCELERATORS, SERVER_CORE, accelerator, this_host
from tests.attention.sizes import TILINGS, sizes

A2, FUSED = accelerator("Ascend 910B1"), accelerator("Ascend 310P3")
KIB = 1024


@settings(deadline=None)
@given(sizes(), TILINGS)
def test_tiles_are_handed_over_through_memory_where_cores_are_split(size, tiling):
    """Each score is written and read in fp32 and as a weight; each tile adds a result in fp32."""
    scores = results = 0
    for start, end in tiling.query_tiles(size.seq_len):
        for tile in tiling.visited(size.seen, start, end):
            scores += (end - start) * (tile.k_end - tile.k_start)
            results += end - start
    heads = size.batch_size * size.num_heads
    handed = heads * (scores * 2 * (4 + size.element_size) + results * size.head_dim * 2 * 4)
    assert handover_traffic(size, tiling, A2) == handed
    assert handover_traffic(size, tiling, FUSED) == 0


def used(size, tiling, chip):
    return {need.buffer: (need.used, need.capacity) for need in needs(size, tiling, chip)}


def test_a_base_of_the_cube_fills_the_smallest_buffers_exactly():
    found = used(AttentionSize(4096, 32, 128), Tiling(512, 512), A2)
    for name in ("L0A", "L0B", "L0C", "L1"):
        assert found[name][0] == found[name][1], name
    assert found["UB"] == (88 * KIB, 192 * KIB)
    assert found["L2"] == (24 * 2 * 512 * (512 * 6 + 128 * 4), 192 * 1024 * KIB)


@pytest.mark.parametrize(
    ("tiling", "chip", "overflowing"),
    [
        (Tiling(512, 512), "Ascend 910B1", set()),
        (Tiling(1024, 512), "Ascend 910B1", {"L1"}),
        (Tiling(128, 2048), "Ascend 910B1", {"UB"}),
        (Tiling(512, 1024), "Ascend 910B4", {"L2"}),
        (Tiling(1024, 1024), "Ascend 310P3", set()),
        (Tiling(1024, 2048), "Ascend 310P3", {"UB"}),
        (Tiling(2048, 4096), "Ascend 310P3", {"L1", "UB"}),
    ],
)
def test_what_does_not_fit(tiling, chip, overflowing):
    size = AttentionSize(8192, 32, 128)
    found = needs(size, tiling, accelerator(chip))
    assert {need.buffer for need in found if not need.fits} == overflowing
    assert fits(size, tiling, accelerator(chip)) == (not overflowing)


def test_a_tile_is_not_larger_than_the_text():
    small = AttentionSize(16, 1, 64)
    assert used(small, Tiling(512, 2048), A2) == used(small, Tiling(16, 16), A2)
    assert used(small, Tiling(16, 16), A2)["L0C"][0] == 2 * 16 * 64 * 4, "the result is wider than the scores"


def test_one_query_leaves_the_cube_idle():
    assert cube_share(AttentionSize(1, kv_len=1024), Tiling(64, 64)) == 1 / 16
    assert cube_share(AttentionSize(1024), Tiling(128, 512)) == 1
    assert cube_share(AttentionSize(1024), Tiling(24, 64)) == 0.75


def test_only_split_cores_hand_over_through_memory():
    size, tiling = AttentionSize(4096, 32, 128), Tiling(128, 1024)
    assert workspace(size, tiling, A2) == 2 * 24 * 128 * (1024 * (4 + 2) + 128 * 4)
    assert workspace(size, tiling, FUSED) == 0
    assert {item.name for item in ACCELERATORS.values() if workspace(size, tiling, item)} == {
        "Ascend 910B1",
        "Ascend 910B2",
        "Ascend 910B3",
        "Ascend 910B4",
        "Ascend 910C (one die)",
    }


@pytest.mark.parametrize("chip", [A2, FUSED, accelerator("Ascend 910B4")], ids=lambda chip: chip.name)
def test_the_best_tiling_fits_and_moves_least(chip):
    size = AttentionSize(4096, 9, 64, 3)
    best = best_tiling(size, chip)

    def moved(tiling):
        return tiled_traffic(size, tiling).total + handover_traffic(size, tiling, chip)

    assert fits(size, best, chip)
    others = [t for q in BLOCKS for k in BLOCKS if fits(size, t := Tiling(q, k), chip)]
    assert moved(best) == min(moved(t) for t in others)
    assert len({moved(t) for t in others}) > 3


def test_a_head_that_is_too_large_has_no_tiling():
    assert best_tiling(AttentionSize(4096, 1, 4096), A2) is None


def test_a_host_takes_the_working_set_or_not():
    size = AttentionSize(4096, 9, 64, 3, element_size=4)
    step = 4 * (3 * 64 * 64 + 2 * 64 * 64 + 3 * 64 * 64 + 3 * 64 * (64 + 2))
    assert used(size, Tiling(64, 64), SERVER_CORE)["L2"] == (step, 512 * KIB)
    assert [need.fits for need in needs(size, Tiling(64, 64), SERVER_CORE)] == [False, True, True]
    assert fits(size, Tiling(64, 64), SERVER_CORE)
    assert not fits(size, Tiling(512, 512), SERVER_CORE)
    best = best_tiling(size, SERVER_CORE)
    assert fits(size, best, SERVER_CORE)
    assert not fits(size, Tiling(2 * best.query_block, best.key_block), SERVER_CORE)


def test_this_host_has_larger_caches_behind_smaller_ones():
    host = this_host()
    assert host is None or 0 < host.l1 <= host.l2 <= host.l3
