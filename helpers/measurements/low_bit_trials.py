"""Trials of operators on numbers of few bits: products with packed weights, and a cache in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import torch

from helpers.measurements.trial import Draw, Trial
from helpers.ops.block_tables import BlockTables
from helpers.ops.int8_cache import Int8, quantise_int8
from helpers.ops.low_bit import pack_words

_PAGE = 32
"""Tokens of a page: the NPU's attention over 8 bits asks for multiples of 32."""


def product_trials(dtype: torch.dtype, randn: Draw) -> Iterator[Trial]:
    """Yield trials of products with int8 and int4 weights, with one scale a row and with groups.

    Activations of 8 bits are tried in 16-bit types alone: an NPU makes them of no other.
    """
    x, columns, rows = randn(5, 128), 128, 40
    codes, scale = quantise_int8(randn(rows, columns))
    by_row = codes.t().contiguous(), scale.to(dtype)
    yield Trial("linear_weight_only", "int8", (x, *by_row))
    offset = (randn(rows) * 4).to(dtype)
    yield Trial("linear_weight_only", "int8, offset", (x, *by_row, offset))
    if dtype != torch.float32:
        yield Trial("linear_w8a8", "", (x, codes, scale), rounds=True)
    groups = columns // 32
    numbers = (codes.t() // 16).to(torch.int8).contiguous()
    scales = (randn(groups, rows).abs() / 8 + 0.01).to(dtype)
    offsets = randn(groups, rows)
    yield Trial("linear_weight_only", "int4, groups of 32", (x, pack_words(numbers), scales, offsets, 32))


def cache_trials(
    case: str, new: list[int], total: list[int], sizes: tuple[int, int, int], randn: Draw
) -> Iterator[Trial]:
    """Yield trials of writing keys and values in 8 bits and of attending over them, in rows and in pages."""
    heads, kv_heads, dim = sizes
    q, k, v = randn(sum(new), heads, dim), randn(sum(total), kv_heads, dim), randn(sum(total), kv_heads, dim)
    q_start, scale = [0, *accumulate(new)], dim**-0.5
    rows = list(range(len(new)))[:: 1 if max(new) == 1 else -1]  # a decode step over neighbours is one call
    room = _PAGE * -(-max(total) // _PAGE)
    positions = torch.cat([torch.arange(n) for n in total])
    row_of = torch.tensor(rows).repeat_interleave(torch.tensor(total))
    filled = [Int8.of(randn(len(new), kv_heads, room, dim)) for _ in "kv"]
    yield Trial("write_int8_rows", case, (k, v, *filled, row_of, positions), written=(2, 3), rounds=True)
    yield Trial("attention_int8_rows", case, (q, *filled, rows, q_start, total, scale))
    counts = [-(-n // _PAGE) for n in total]
    pages = list(reversed(range(sum(counts))))
    tables = [[pages.pop(0) for _ in range(n)] for n in counts]
    slots = [table[i // _PAGE] * _PAGE + i % _PAGE for table, n in zip(tables, total, strict=True) for i in range(n)]  # fmt: skip
    paged = [_pages(randn(sum(counts), _PAGE, kv_heads, dim)) for _ in "kv"]
    yield Trial("write_int8_pages", case, (k, v, *paged, torch.tensor(slots)), written=(2, 3), rounds=True)
    yield Trial("attention_int8_pages", case, (q, *paged, BlockTables(tables, total, _PAGE), q_start, scale))


def _pages(numbers: torch.Tensor) -> Int8:
    """Return pages `[pages, page_size, KV, D]` in 8 bits, with scales `[pages, KV, page_size]`."""
    codes, scale = Int8.of(numbers)
    return Int8(codes, scale.transpose(1, 2).contiguous())
