"""Attention over cached keys and values on a CPU: the C++ kernel where it serves, else plain torch.

The kernel reads pages and rows where they are. Where the processor multiplies bf16 itself, plain torch's
products are faster for long chunks, so that such chunks go there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from helpers.native import page_attention as native
from helpers.ops import torch_attention
from helpers.ops.block_tables import BlockTables
from helpers.ops.torch_ops import can_pack

LONG = 32
"""New tokens of one sequence from which on bf16 products of many queries pay."""


def attention_pages(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, tables: BlockTables, q_start: Sequence[int], scale: float
) -> Tensor:
    """Return what the plain version returns."""
    if not native.serves(q, k_cache, v_cache) or _is_long(q, tuple(q_start)):
        return torch_attention.attention_pages(q, k_cache, v_cache, tables, q_start, scale)
    sequences = tables.native(tuple(q_start))
    return native.attend(q, k_cache, v_cache, sequences, scale)


def attention_rows(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    rows: Sequence[int],
    q_start: Sequence[int],
    kv_lens: Sequence[int],
    scale: float,
) -> Tensor:
    """Return what the plain version returns; to the kernel, a row is one long page."""
    if not native.serves(q, k_cache, v_cache) or _is_long(q, tuple(q_start)):
        return torch_attention.attention_rows(q, k_cache, v_cache, rows, q_start, kv_lens, scale)
    sequences = _rows(tuple(rows), tuple(q_start), tuple(kv_lens))
    return native.attend(q, k_cache, v_cache, sequences, scale, heads_first=True)


@functools.lru_cache(maxsize=1)
def _rows(rows: tuple[int, ...], q_start: tuple[int, ...], kv_lens: tuple[int, ...]) -> native.Sequences:
    """Return the sequences of a pass, made once for all layers."""
    return native.Sequences.of(torch.tensor(rows, dtype=torch.int32).unsqueeze(1), q_start, kv_lens)


def _is_long(q: Tensor, q_start: tuple[int, ...]) -> bool:
    """Return whether plain torch is faster, because the processor multiplies many bf16 queries itself."""
    if q.dtype != torch.bfloat16 or not can_pack(q.dtype):
        return False
    return max(b - a for a, b in pairwise(q_start)) > LONG
