"""Keys and values in 8 bits, in plain torch: written with one scale for each token and head, read as numbers.

The number behind a code is `code * scale`. A head of 64 numbers takes 66 bytes, where fp32 takes 256. Scales
lie where FIA, the NPU's attention operator, expects them (`key_quant_mode` 5 for pages, 3 for rows).

Scales are bf16, which has the range of fp32: fp16 ends at 65504, and keys of 1e7 would have no scale. A code counts
steps of the stored scale, not of the exact one. So each number comes back within half a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.ops import native_attention, torch_attention
from helpers.ops.block_tables import BlockTables

SCALE = torch.bfloat16
"""Type of a cache's scales."""


class Int8(NamedTuple):
    """Keys or values of one layer in 8 bits."""

    codes: Tensor
    """int8: pages `[num_pages, page_size, KV, D]` or rows `[B, KV, max_seq_len, D]`."""
    scale: Tensor
    """bf16: pages `[num_pages, KV, page_size]` or rows `[B, KV, max_seq_len]`."""

    @classmethod
    def of(cls, x: Tensor) -> Int8:
        """Return `x [..., D]` as codes `[..., D]` and scales `[...]`: the largest number / 127, in bf16.

        Rounding to bf16 lowers a scale by 1/257 at most. The largest number is then 127.496 steps, and its code 127.
        """
        scale = _scales_of(x).to(SCALE)
        return cls(_codes(x, scale), scale)

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """Return `codes * scale`, where codes `[..., D]` have scales `[...]`; the product is exact in fp32."""
        return (self.codes * self.scale.float().unsqueeze(-1)).to(dtype)


def quantise_int8(x: Tensor, agree: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Return `x [..., n]` as int8 codes `[..., n]` and fp32 scales `[...]`, each the largest number / 127.

    Where all `n` numbers are 0, codes are 0. A NaN makes the scale NaN, so that no NaN is lost. `agree` may raise the
    scales, where these numbers are a part of a row.
    """
    scale = _scales_of(x)
    scale = scale if agree is None else agree(scale)
    return _codes(x, scale), scale


def _scales_of(x: Tensor) -> Tensor:
    """Return the largest number / 127 of `x [..., n]`, in fp32 `[...]`; the smallest normal number where all are 0."""
    return (x.float().abs().amax(-1) / 127).clamp(min=torch.finfo(torch.float32).tiny)


def _codes(x: Tensor, scale: Tensor) -> Tensor:
    """Return `x [..., n]` in whole steps of `scale [...]`, int8."""
    return (x.float() / scale.float().unsqueeze(-1)).round().to(torch.int8)


def write_int8_pages(k: Tensor, v: Tensor, k_cache: Int8, v_cache: Int8, slots: Tensor) -> None:
    """Write `k`, `v` `[T, KV, D]` into pages in 8 bits: token `t` to slot `slots[t]`, int64 `[T]`."""
    page_size = k_cache.codes.shape[1]
    pages, offsets = slots // page_size, slots % page_size
    for cache, new in ((k_cache, k), (v_cache, v)):
        codes, scale = Int8.of(new)
        cache.codes.view(-1, *cache.codes.shape[2:]).index_copy_(0, slots, codes)
        cache.scale[pages, :, offsets] = scale


def write_int8_rows(
    k: Tensor, v: Tensor, k_cache: Int8, v_cache: Int8, rows: Tensor, positions: Tensor
) -> None:
    """Write `k`, `v` `[T, KV, D]` into rows in 8 bits: token `t` at `rows[t]`, `positions[t]`."""
    for cache, new in ((k_cache, k), (v_cache, v)):
        codes, scale = Int8.of(new)
        cache.codes[rows, :, positions] = codes
        cache.scale[rows, :, positions] = scale


def numbers_of_pages(cache: Int8, pages: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers in some pages, `[n, page_size, KV, D]`; `pages` is int64 `[n]`."""
    return Int8(cache.codes[pages], cache.scale[pages].transpose(1, 2)).numbers(dtype)


def numbers_of_slots(cache: Int8, slots: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers in some slots, `[n, KV, D]`; `slots` is int64 `[n]`."""
    page_size = cache.codes.shape[1]
    scale = cache.scale[slots // page_size, :, slots % page_size]
    return Int8(cache.codes.flatten(0, 1)[slots], scale).numbers(dtype)


def numbers_of_rows(cache: Int8, rows: Sequence[int], length: int, dtype: torch.dtype) -> Tensor:
    """Return the first `length` positions of some rows as numbers, `[n, KV, length, D]`."""
    index = torch.tensor(rows, device=cache.codes.device)
    return Int8(*(tensor[:, :, :length].index_select(0, index) for tensor in cache)).numbers(dtype)


def attention_int8_pages(
    q: Tensor, k_cache: Int8, v_cache: Int8, tables: BlockTables, q_start: Sequence[int], scale: float
) -> Tensor:
    """Return what `attention_pages` returns over pages in 8 bits, `[T, H, D]`.

    Pages in use become numbers first, each page once, in a buffer for one layer: as many bytes as those
    tokens take in q's type.
    """
    pages, compact = tables.compact
    k, v = (numbers_of_pages(cache, pages, q.dtype) for cache in (k_cache, v_cache))
    attend = native_attention.attention_pages if q.device.type == "cpu" else torch_attention.attention_pages
    return attend(q, k, v, compact, q_start, scale)


def attention_int8_rows(
    q: Tensor,
    k_cache: Int8,
    v_cache: Int8,
    rows: Sequence[int],
    q_start: Sequence[int],
    kv_lens: Sequence[int],
    scale: float,
) -> Tensor:
    """Return what `attention_rows` returns over rows in 8 bits, `[T, H, D]`; used rows become numbers first."""
    k, v = (numbers_of_rows(cache, rows, max(kv_lens), q.dtype) for cache in (k_cache, v_cache))
    attend = native_attention.attention_rows if q.device.type == "cpu" else torch_attention.attention_rows
    return attend(q, k, v, range(len(rows)), q_start, kv_lens, scale)
