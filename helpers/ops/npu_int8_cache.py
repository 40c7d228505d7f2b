"""Keys and values in 8 bits on an Ascend NPU: scatter operators write, and FIA reads the codes as they are.

FIA takes one query in each sequence over int8 keys with a scale for each token and head: mode 5 in pages, mode 3
in rows. Heads must be multiples of 32 elements, and pages of 32 tokens. With more queries FIA takes no such
scales. There, and in fp32, codes become numbers first, as in the plain version.

FIA wants fp32 scales, and the cache keeps bf16: each call widens one layer's scales, without any rounding.
`npu_dynamic_quant` does not serve here. Its codes count steps of its own fp32 scale, and a number would come back within
a whole step of the stored scale, not half a step. So keys and values are divided by the stored scales, both at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch_npu
from torch import Tensor

from helpers.ops import npu_attention
from helpers.ops.block_tables import BlockTables
from helpers.ops.int8_cache import Int8, numbers_of_pages, numbers_of_rows

_STEP, _LARGEST_PAGE = 32, 512
_IN_ROWS, _IN_PAGES = 3, 5


def write_int8_pages(k: Tensor, v: Tensor, k_cache: Int8, v_cache: Int8, slots: Tensor) -> None:
    """Write what the plain version writes: codes by `npu_scatter_pa_kv_cache`, scales by `npu_scatter_nd_update_`."""
    page_size, heads = k_cache.codes.shape[1], torch.arange(k.shape[1], device=k.device)
    (k_codes, v_codes), (k_scale, v_scale) = Int8.of(torch.stack((k, v)))
    torch_npu.npu_scatter_pa_kv_cache(
        k_codes, v_codes, k_cache.codes, v_cache.codes, slots.int(), cache_mode="Norm"
    )
    size = k_scale.shape
    axes = (
        (slots // page_size)[:, None].expand(size),
        heads.expand(size),
        (slots % page_size)[:, None].expand(size),
    )
    _scatter((k_cache.scale, v_cache.scale), torch.stack(axes, dim=-1), (k_scale, v_scale))


def write_int8_rows(
    k: Tensor, v: Tensor, k_cache: Int8, v_cache: Int8, rows: Tensor, positions: Tensor
) -> None:
    """Write what the plain version writes, by `npu_scatter_nd_update_`."""
    (k_codes, v_codes), (k_scale, v_scale) = Int8.of(torch.stack((k, v)))
    size, heads = k_scale.shape, torch.arange(k.shape[1], device=k.device)
    axes = (rows[:, None].expand(size), heads.expand(size), positions[:, None].expand(size))
    caches = (k_cache.codes, v_cache.codes, k_cache.scale, v_cache.scale)
    _scatter(caches, torch.stack(axes, dim=-1), (k_codes, v_codes, k_scale, v_scale))


def attention_int8_pages(
    q: Tensor, k_cache: Int8, v_cache: Int8, tables: BlockTables, q_start: Sequence[int], scale: float
) -> Tensor:
    """Return what the plain version returns; a decode step is one call over the codes."""
    num_pages, page_size, kv_heads, dim = k_cache.codes.shape
    fits = dim % _STEP == 0 and page_size % _STEP == 0 and page_size <= _LARGEST_PAGE
    if q.dtype == torch.float32 or len(q) != len(tables) or not fits:
        pages, compact = tables.compact
        k, v = (numbers_of_pages(cache, pages, q.dtype) for cache in (k_cache, v_cache))
        return npu_attention.attention_pages(q, k, v, compact, q_start, scale)
    k, v = (cache.codes.view(num_pages, page_size, -1) for cache in (k_cache, v_cache))
    options: dict[str, Any] = dict(block_table=tables.padded, block_size=page_size)
    options |= _scales(k_cache, v_cache, _IN_PAGES)
    out = npu_attention.fia_bsh(
        q.flatten(1)[:, None], k, v, tables.kv_lens, scale, q.shape[1], kv_heads, **options
    )
    return out[:, 0].view_as(q)


def attention_int8_rows(
    q: Tensor,
    k_cache: Int8,
    v_cache: Int8,
    rows: Sequence[int],
    q_start: Sequence[int],
    kv_lens: Sequence[int],
    scale: float,
) -> Tensor:
    """Return what the plain version returns; a decode step over neighbouring rows is one call over the codes."""
    decode, first, batch = len(q) == len(rows), rows[0], len(rows)
    together = decode and all(row == first + i for i, row in enumerate(rows))
    if q.dtype == torch.float32 or not together or q.shape[-1] % _STEP:
        k, v = (numbers_of_rows(cache, rows, max(kv_lens), q.dtype) for cache in (k_cache, v_cache))
        return npu_attention.attention_rows(q, k, v, range(batch), q_start, kv_lens, scale)
    keys, values = (
        Int8(*(tensor[first : first + batch] for tensor in cache)) for cache in (k_cache, v_cache)
    )
    out = npu_attention.fia_bnsd(
        q[:, :, None], keys.codes, values.codes, list(kv_lens), scale, **_scales(keys, values, _IN_ROWS)
    )[0]
    return out[:, :, 0]


def _scales(k_cache: Int8, v_cache: Int8, mode: int) -> dict[str, Any]:
    """Return FIA's arguments for scales, which it takes in fp32, under the names of its version 2."""
    k, v = (cache.scale.float() for cache in (k_cache, v_cache))
    return dict(dequant_scale_key=k, dequant_scale_value=v, key_quant_mode=mode, value_quant_mode=mode)


def _scatter(caches: Sequence[Tensor], indices: Tensor, updates: Sequence[Tensor]) -> None:
    """Write `updates` into `caches` in place, at the same indices of each."""
    for cache, new in zip(caches, updates, strict=True):
        torch_npu.npu_scatter_nd_update_(cache, indices, new)
