"""Keys and values in 8 bits: attention over codes is attention over the numbers behind the codes."""

import pytest
import torch

from helpers.ops import (
    BlockTables,
    Int8,
    attention_int8_pages,
    attention_int8_rows,
    attention_pages,
    attention_rows,
    quantise_int8,
    write_int8_pages,
    write_int8_rows,
)

PAGES, SIZE, KV, HEADS, DIM = 12, 4, 2, 4, 8


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def empty_pages():
    """Pages whose unwritten slots would show."""
    return Int8(
        torch.full((PAGES, SIZE, KV, DIM), 77).to(torch.int8), torch.full((PAGES, KV, SIZE), float("nan"))
    )


@pytest.mark.parametrize(
    ("tables", "lens", "q_lens"),
    [([[3, 1, 7], [3, 9]], [11, 6], [1, 1]), ([[5, 6], [0]], [7, 3], [3, 1]), ([[2]], [4], [4])],
    ids=["shared page, decode", "chunk and decode", "prompt"],
)
def test_pages(tables, lens, q_lens):
    keys, values = empty_pages(), empty_pages()
    slots = sorted(
        {table[i // SIZE] * SIZE + i % SIZE for table, n in zip(tables, lens, strict=True) for i in range(n)}
    )
    k, v = torch.randn(2, len(slots), KV, DIM)
    order = torch.randperm(len(slots))
    write_int8_pages(k[order], v[order], keys, values, torch.tensor(slots)[order])
    plain = [torch.zeros(PAGES * SIZE, KV, DIM) for _ in "kv"]
    for cache, new in zip(plain, (k, v), strict=True):
        codes, scale = quantise_int8(new)
        cache[slots] = codes * scale.unsqueeze(-1)
    q, q_start = torch.randn(sum(q_lens), HEADS, DIM), [0, *torch.tensor(q_lens).cumsum(0).tolist()]
    block_tables = BlockTables(tables, lens, SIZE)
    want = attention_pages(q, *(p.view(PAGES, SIZE, KV, DIM) for p in plain), block_tables, q_start, 0.3)
    got = attention_int8_pages(q, keys, values, block_tables, q_start, 0.3)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "lens", "q_lens"), [([1, 2], [3, 3], [1, 1]), ([2, 0], [5, 2], [2, 1])])
def test_rows(rows, lens, q_lens):
    keys, values = (
        Int8(torch.full((3, KV, 6, DIM), 77).to(torch.int8), torch.full((3, KV, 6), float("nan")))
        for _ in "kv"
    )
    where = [(row, i) for row, n in zip(rows, lens, strict=True) for i in range(n)]
    k, v = torch.randn(2, len(where), KV, DIM)
    at_rows, positions = (torch.tensor(side) for side in zip(*where, strict=True))
    write_int8_rows(k, v, keys, values, at_rows, positions)
    plain = [torch.zeros(3, KV, 6, DIM) for _ in "kv"]
    for cache, new in zip(plain, (k, v), strict=True):
        codes, scale = quantise_int8(new)
        cache[at_rows, :, positions] = codes * scale.unsqueeze(-1)
    q, q_start = torch.randn(sum(q_lens), HEADS, DIM), [0, *torch.tensor(q_lens).cumsum(0).tolist()]
    want = attention_rows(q, *plain, rows, q_start, lens, 0.3)
    torch.testing.assert_close(
        attention_int8_rows(q, keys, values, rows, q_start, lens, 0.3), want, atol=1e-5, rtol=1e-5
    )


def test_compact_tables_number_each_page_once_in_order_of_appearance():
    pages, compact = BlockTables([[7, 2], [7, 5], [1]], [8, 7, 2], 4).compact
    assert pages.tolist() == [7, 2, 5, 1]
    assert compact.tables == [[0, 1], [0, 2], [3]]
    assert compact.kv_lens == [8, 7, 2]
