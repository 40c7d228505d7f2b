"""Bytes moved are counted as if tile by tile, predicted memory is the measured one, tiles fit buffers or do not."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention import (
    BLOCKS,
    AttentionSize,
    FlashAttention,
    Tiling,
    best_tiling,
    cube_share,
    fits,
    handover_traffic,
    keys_read,
    naive_memory,
    naive_traffic,
    needs,
    scores_computed,
    tiled_memory,
    tiled_traffic,
    traffic_order,
    workspace,
)
from helpers.estimates import ACCELERATORS, SERVER_CORE, accelerator, this_host
from helpers.machine import peak_memory
from helpers.ops import materialised_attention

CPU = torch.device("cpu")
A2, FUSED = accelerator("Ascend 910B1"), accelerator("Ascend 310P3")
KIB = 1024


@st.composite
def sizes(draw):
    """Any small attention."""
    kv_heads = draw(st.integers(1, 3))
    return AttentionSize(
        draw(st.integers(1, 20)),
        kv_heads * draw(st.integers(1, 3)),
        draw(st.sampled_from([4, 16])),
        kv_heads,
        draw(st.none() | st.integers(1, 20)),
        draw(st.integers(1, 2)),
        draw(st.sampled_from([2, 4])),
        draw(st.booleans()),
        draw(st.none() | st.integers(1, 9)),
    )


TILINGS = st.builds(Tiling, st.integers(1, 8), st.integers(1, 8))


@settings(deadline=None)
@given(sizes(), TILINGS)
def test_traffic_is_what_a_walk_over_the_tiles_adds_up_to(size, tiling):
    keys = scores = products = 0
    for start, end in tiling.query_tiles(size.seq_len):
        for tile in tiling.visited(size.seen, start, end):
            keys += tile.k_end - tile.k_start
            scores += (end - start) * (tile.k_end - tile.k_start)
            products += end - start
    assert keys_read(size, tiling) == keys
    assert scores_computed(size, tiling) == scores
    element, dim, heads = size.element_size, size.head_dim, size.batch_size * size.num_heads
    for folded, readers in ((False, heads), (True, size.batch_size * size.kv_heads)):
        traffic = tiled_traffic(size, tiling, folded=folded)
        assert traffic.keys_values == 2 * readers * keys * dim * element
        assert traffic.scores == 0
        assert traffic.queries == heads * size.seq_len * dim * element
        assert traffic.total == sum(vars(traffic).values())
    handed = heads * (scores * 2 * (4 + element) + products * dim * 2 * 4)
    assert handover_traffic(size, tiling, A2) == handed
    assert handover_traffic(size, tiling, FUSED) == 0


def test_materialised_attention_by_hand():
    traffic = naive_traffic(AttentionSize(1000, 2, 64, 1, batch_size=3))
    assert traffic.queries == traffic.result == 3 * 2 * 1000 * 64 * 2
    assert traffic.keys_values == 2 * 3 * 1000 * 64 * 2
    assert traffic.scores == 3 * 2 * 1000 * 1000 * 16


@pytest.mark.parametrize("block", [8, 32, 64])
def test_the_derivation_is_the_count_without_a_mask(block):
    size = AttentionSize(512, 3, 16, element_size=4, causal=False)
    on_chip = 4 * block * size.head_dim * size.element_size
    counted = tiled_traffic(size, Tiling(block, block)).total - 4 * size.rows  # the lse is not in it
    assert counted == traffic_order(size, on_chip)
    causal = tiled_traffic(replace(size, causal=True), Tiling(block, block)).keys_values
    assert causal == tiled_traffic(size, Tiling(block, block)).keys_values * (512 // block + 1) / (
        1024 // block
    )


def test_memory_is_linear_and_traffic_is_not():
    short, long = AttentionSize(2048, 9), AttentionSize(8192, 9)
    tiling = Tiling(256, 64)
    assert tiled_memory(long, tiling) < 4 * tiled_memory(short, tiling)
    growth = tiled_traffic(long, tiling).total / tiled_traffic(short, tiling).total
    assert 11 < growth < 16
    assert tiled_traffic(long, tiling).total < naive_traffic(long).total / 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("n", "m", "batch", "heads", "kv_heads", "query_block", "key_block"),
    [
        (700, 700, 1, 9, 9, 256, 64),
        (700, 700, 1, 9, 3, 256, 64),
        (600, 900, 2, 6, 2, 100, 512),
        (300, 300, 1, 2, 1, 512, 128),
        (900, 900, 1, 4, 4, 64, 900),
    ],
)
def test_predicted_memory_is_the_measured_one(dtype, n, m, batch, heads, kv_heads, query_block, key_block):
    size = AttentionSize(n, heads, 64, kv_heads, m, batch, dtype.itemsize)
    q = torch.randn(batch, heads, n, 64).to(dtype)
    k, v = (torch.randn(batch, kv_heads, m, 64).to(dtype) for _ in range(2))
    attention = FlashAttention(key_block, query_block)
    with peak_memory(CPU) as tiled:
        attention(q, k, v)
    assert tiled.nbytes == pytest.approx(tiled_memory(size, attention.tiling), rel=0.03)
    packed = [t.transpose(1, 2).flatten(0, 1).contiguous() for t in (q, k, v)]
    starts = [[i * length for i in range(batch + 1)] for length in (n, m)]
    with peak_memory(CPU) as naive:
        materialised_attention(*packed, *starts, 0.125)
    assert naive.nbytes == pytest.approx(naive_memory(size), rel=0.1)


@pytest.mark.parametrize("wrong", [{"seq_len": 0}, {"head_dim": 2.5}, {"kv_len": -1}, {"window": True}])
def test_a_size_is_a_whole_number_from_1(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is a whole number from 1"):
        AttentionSize(**{"seq_len": 4, **wrong})


def test_sizes_fit_together():
    with pytest.raises(ValueError, match="num_kv_heads divides num_heads, got 2 and 3"):
        AttentionSize(4, 3, num_kv_heads=2)
    with pytest.raises(ValueError, match="on_chip is a positive number"):
        traffic_order(AttentionSize(4), 0)
    size = AttentionSize(4, 6)
    assert (size.keys, size.kv_heads, size.rows) == (4, 6, 24)


# The chip


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
