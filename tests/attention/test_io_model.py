"""Bytes moved are counted as if tile by tile, and predicted memory is the measured one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from helpers.attention import (
    AttentionSize,
    FlashAttention,
    Tiling,
    keys_read,
    naive_memory,
    naive_traffic,
    scores_computed,
    tiled_memory,
    tiled_traffic,
    traffic_order,
)
from helpers.machine import peak_memory
from helpers.ops import materialised_attention
from tests.attention.sizes import TILINGS, sizes

CPU = torch.device("cpu")


@settings(deadline=None)
@given(sizes(), TILINGS)
def test_traffic_is_what_a_walk_over_the_tiles_adds_up_to(size, tiling):
    keys = scores = 0
    for start, end in tiling.query_tiles(size.seq_len):
        for tile in tiling.visited(size.seen, start, end):
            keys += tile.k_end - tile.k_start
            scores += (end - start) * (tile.k_end - tile.k_start)
    assert keys_read(size, tiling) == keys
    assert scores_computed(size, tiling) == scores
    element, dim, heads = size.element_size, size.head_dim, size.batch_size * size.num_heads
    for folded, readers in ((False, heads), (True, size.batch_size * size.kv_heads)):
        traffic = tiled_traffic(size, tiling, folded=folded)
        assert traffic.keys_values == 2 * readers * keys * dim * element
        assert traffic.scores == 0
        assert traffic.queries == heads * size.seq_len * dim * element
        assert traffic.total == sum(vars(traffic).values())


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
