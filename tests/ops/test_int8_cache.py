"""Keys and values in 8 bits: attention over codes is attention over the numbers behind the codes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ops import (
    BlockTables,
    Int8,
    attention_int8_pages,
    attention_int8_rows,
    attention_pages,
    attention_rows,
    write_int8_pages,
    write_int8_rows,
)

PAGES, SIZE, KV, HEADS, DIM = 12, 4, 2, 4, 8
SMALLEST = torch.finfo(torch.float32).tiny


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def empty_pages():
    """Pages whose unwritten slots would show."""
    return Int8(
        torch.full((PAGES, SIZE, KV, DIM), 77).to(torch.int8),
        torch.full((PAGES, KV, SIZE), float("nan"), dtype=torch.bfloat16),
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
        codes, scale = Int8.of(new)
        cache[slots] = codes * scale.float().unsqueeze(-1)
    q, q_start = torch.randn(sum(q_lens), HEADS, DIM), [0, *torch.tensor(q_lens).cumsum(0).tolist()]
    block_tables = BlockTables(tables, lens, SIZE)
    want = attention_pages(q, *(p.view(PAGES, SIZE, KV, DIM) for p in plain), block_tables, q_start, 0.3)
    got = attention_int8_pages(q, keys, values, block_tables, q_start, 0.3)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "lens", "q_lens"), [([1, 2], [3, 3], [1, 1]), ([2, 0], [5, 2], [2, 1])])
def test_rows(rows, lens, q_lens):
    keys, values = (
        Int8(
            torch.full((3, KV, 6, DIM), 77).to(torch.int8),
            torch.full((3, KV, 6), float("nan"), dtype=torch.bfloat16),
        )
        for _ in "kv"
    )
    where = [(row, i) for row, n in zip(rows, lens, strict=True) for i in range(n)]
    k, v = torch.randn(2, len(where), KV, DIM)
    at_rows, positions = (torch.tensor(side) for side in zip(*where, strict=True))
    write_int8_rows(k, v, keys, values, at_rows, positions)
    plain = [torch.zeros(3, KV, 6, DIM) for _ in "kv"]
    for cache, new in zip(plain, (k, v), strict=True):
        codes, scale = Int8.of(new)
        cache[at_rows, :, positions] = codes * scale.float().unsqueeze(-1)
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


def check_half_a_step(x):
    """Codes lie within -127 and 127, and every number comes back within half a step of the stored scale."""
    codes, scale = Int8.of(x)
    assert (codes.dtype, scale.dtype) == (torch.int8, torch.bfloat16)
    assert codes.int().abs().max() <= 127
    exact, step = x.double(), scale.double().unsqueeze(-1)
    assert ((codes.double() * step - exact).abs() <= 0.500001 * step).all()
    assert torch.equal(Int8(codes, scale).numbers(torch.float64), codes.double() * step)
    largest = (exact.abs().amax(-1) / 127).clamp(min=SMALLEST)
    assert ((scale.double() / largest - 1).abs() <= 2**-8 + 1e-6).all(), "the nearest bf16"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=9),
    st.integers(-120, 120),
    st.integers(0, 8),
    st.sampled_from([0, 1, 5, 11]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_numbers_come_back_within_half_a_step(numbers, power, place, outlier, dtype):
    """Of any size that fp32 has, with and without one number that is much larger than the others."""
    x = torch.tensor(numbers, dtype=torch.float64)
    x[place % len(x)] *= 2.0**outlier
    check_half_a_step((x * 2.0 ** min(power, 127 - outlier)).to(dtype))


@pytest.mark.parametrize(
    "x", [[0.0] * 4, [1e-30, -1e-30, 0, 5e-31], [1e30, -3e29, 7.0, 0], [0.01] * 3 + [4e4], [1e-42, 0]]
)
def test_extreme_numbers(x):
    check_half_a_step(torch.tensor([x, x[::-1]]))
    check_half_a_step(torch.tensor([x]).bfloat16())


def test_no_scale_is_rounded_so_far_down_that_a_code_would_be_128():
    """Just below and at the middle between two neighbours in bf16, for each of the 128 mantissas: the worst cases."""
    mantissas = 1 + torch.arange(128, dtype=torch.float64) / 128
    for above in (2**-8 - 2**-22, 2**-8, 2**-8 + 2**-22):
        x = (127 * (mantissas + above)).float().unsqueeze(-1) * torch.tensor([1.0, -1.0, 0.3])
        check_half_a_step(x)
        check_half_a_step(x * 2.0**-100)


def test_zeros_and_nan():
    codes, scale = Int8.of(torch.tensor([[0.0, 0.0], [float("nan"), 1.0], [-2.0, 1.0]]))
    assert codes[0].tolist() == [0, 0]
    assert scale[0] > 0
    assert Int8(codes[1], scale[1]).numbers(torch.float32).isnan().all()
    assert codes[2].tolist() == [-127, 64]
