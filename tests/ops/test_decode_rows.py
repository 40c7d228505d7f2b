"""Sequences of one new token each attend together: by common beginning, by like length, and nobody notices."""

import random

import pytest
import torch

from helpers.ops import BlockTables, attention_pages, materialised_attention


def step(lens, common, size, queries=None, dtype=torch.float32, seed=0):
    """A step over scattered pages whose unused slots are poison: `(got, want, tables)`; `common` pages start each table."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    counts = [-(-n // size) - common for n in lens]
    pages = rng.sample(range(common + sum(counts) + 5), common + sum(counts))
    shared = [pages.pop() for _ in range(common)]
    tables = [shared + [pages.pop() for _ in range(n)] for n in counts]
    caches = torch.full((2, common + sum(counts) + 5, size, 2, 16), float("nan"), dtype=dtype)
    slots = [[t[i // size] * size + i % size for i in range(n)] for t, n in zip(tables, lens, strict=True)]
    for row in slots:
        new = torch.randn(2, len(row), 2, 16, generator=generator, dtype=dtype)
        known = ~caches.flatten(1, 2)[:, row].isnan()
        caches.flatten(1, 2)[:, row] = torch.where(known, caches.flatten(1, 2)[:, row], new)
    queries = queries or [1] * len(lens)
    q_start, kv_start = ([sum(of[:i]) for i in range(len(lens) + 1)] for of in (queries, lens))
    q = torch.randn(q_start[-1], 6, 16, generator=generator, dtype=dtype)
    block_tables = BlockTables(tables, lens, size)
    got = attention_pages(q, *caches, block_tables, q_start, 0.25)
    keys, values = (torch.cat([c.flatten(0, 1)[row] for row in slots]) for c in caches)
    want = materialised_attention(q, keys, values, q_start, kv_start, 0.25)
    return got, want, block_tables.split(q_start)


@pytest.mark.parametrize("size", [1, 16, 128])
@pytest.mark.parametrize("common", [0, 1, 9])
def test_rows_that_attend_together_get_their_own_attention(size, common):
    rng = random.Random(size + common)
    lens = [common * size + rng.randint(1, 700) for _ in range(9)]
    got, want, _ = step(lens, common, size)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)


def test_a_mixed_step_gives_each_row_its_place():
    got, want, (alone, together) = step([700, 90, 300, 301, 650], 4, 16, queries=[1, 7, 1, 30, 1])
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)
    assert alone == [1, 3]
    assert together[0].rows.tolist() == [0, 39, 8]  # the longest first


def test_a_common_beginning_is_read_once():
    got, want, (_, (family,)) = step([600, 530, 520], 32, 16)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)
    assert family.shared.numel() == 512
    assert [tuple(part.slots.shape) for part in family.parts] == [(1, 88), (2, 18)]


def test_a_beginning_that_is_somebodys_whole_text_leaves_him_something():
    lens = [528, 528, 528]  # 33 pages, all of them common: forks before they go on
    got, want, (_, (family,)) = step(lens, 33, 16)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)
    assert family.shared.numel() == 512


def test_relatives_and_strangers_in_one_step():
    size, lens = 16, [900, 890, 20, 40]
    torch.manual_seed(0)
    tables = [
        [*range(0, 100, 2), *range(101, 115, 2)],
        [*range(0, 100, 2), *range(121, 133, 2)],
        [51, 49],
        [139, 55, 53],
    ]
    q, k, v = torch.randn(4, 6, 16), torch.randn(140, size, 2, 16), torch.randn(140, size, 2, 16)
    block_tables = BlockTables(tables, lens, size)
    got = attention_pages(q, k, v, block_tables, range(5), 0.25)
    assert [f.shared is not None for f in block_tables.split(range(5))[1]] == [True, False]
    for i, (table, n) in enumerate(zip(tables, lens, strict=True)):
        row = [table[t // size] * size + t % size for t in range(n)]
        want = materialised_attention(
            q[i : i + 1], k.flatten(0, 1)[row], v.flatten(0, 1)[row], (0, 1), (0, n), 0.25
        )
        torch.testing.assert_close(got[i : i + 1], want, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-6), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]
)
def test_other_types(dtype, error):
    got, want, _ = step([600, 590, 300], 16, 16, dtype=dtype)
    assert got.dtype == dtype
    assert (got.double() - want.double()).abs().max() < error


def test_like_lengths_share_a_call():
    _, _, (_, (family,)) = step([100, 95, 90, 600, 500, 250], 0, 16)
    assert [part.slots.shape[1] for part in family.parts] == [600, 250, 100]
    assert [len(part.slots) for part in family.parts] == [2, 1, 3]
    assert family.parts[1].mask is None, "nothing is padded there"
