"""Attention and the writing of keys and values in plain torch, for every device.

Shapes: `T` is the number of new tokens of all sequences, packed one after the other without padding. `H` is
the number of query heads, `KV` that of key/value heads with `H % KV == 0`, and `D` the head dimension. Masks
are causal and aligned at the bottom right: a sequence's last query sees the sequence's last key.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.ops.block_tables import BlockTables
from helpers.ops.decode_rows import Family


def check_heads(weight: Tensor, heads: int, kv_heads: int, head_dim: int) -> None:
    """Raise ValueError for heads that the attention operators of the weight's device do not take.

    Plain torch takes all.
    """


def attention(
    q: Tensor, k: Tensor, v: Tensor, q_start: Sequence[int], kv_start: Sequence[int], scale: float
) -> Tensor:
    """Return causal attention `[T, H, D]` of packed ragged sequences: `q [T, H, D]`, `k`, `v` `[Tk, KV, D]`.

    Sequence `i` owns the queries `q_start[i]:q_start[i + 1]` and the keys `kv_start[i]:kv_start[i + 1]`. K
    and V are never repeated for the query heads, and scores are never stored. Sequences of equal lengths are
    computed in one call.
    """
    lengths = {
        (b - a, d - c) for a, b, c, d in zip(q_start, q_start[1:], kv_start, kv_start[1:], strict=False)
    }
    if len(lengths) == 1:
        return _attend_equal(q, k, v, len(q_start) - 1, scale)
    out = torch.empty_like(q)
    for i in range(len(q_start) - 1):
        rows, cols = slice(q_start[i], q_start[i + 1]), slice(kv_start[i], kv_start[i + 1])
        out[rows] = _attend_equal(q[rows], k[cols], v[cols], 1, scale)
    return out


def write_kv_rows(
    k_cache: Tensor, v_cache: Tensor, k: Tensor, v: Tensor, rows: Tensor, positions: Tensor
) -> None:
    """Write `k`, `v` `[T, KV, D]` into `[B, KV, max_seq_len, D]`: token `t` at `rows[t]`, `positions[t]`."""
    k_cache[rows, :, positions] = k
    v_cache[rows, :, positions] = v


def attention_rows(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    rows: Sequence[int],
    q_start: Sequence[int],
    kv_lens: Sequence[int],
    scale: float,
) -> Tensor:
    """Return causal attention `[T, H, D]` of `q [T, H, D]` over rows of the caches `[B, KV, max_seq_len, D]`.

    Sequence `i` owns the queries `q_start[i]:q_start[i + 1]`. The sequence's keys are the first `kv_lens[i]`
    of row `rows[i]`, read in place. Neighbouring rows of equal lengths are computed in one call.
    """
    counts = {(b - a, n) for (a, b), n in zip(pairwise(q_start), kv_lens, strict=True)}
    first, batch = rows[0], len(rows)
    if len(counts) == 1 and all(row == first + i for i, row in enumerate(rows)):
        k, v = (cache[first : first + batch, :, : kv_lens[0]] for cache in (k_cache, v_cache))
        return _attend(_heads_first(q, batch), k, v, scale)
    out = torch.empty_like(q)
    for i, row in enumerate(rows):
        part, n = slice(q_start[i], q_start[i + 1]), kv_lens[i]
        k, v = k_cache[row : row + 1, :, :n], v_cache[row : row + 1, :, :n]
        out[part] = _attend(_heads_first(q[part], 1), k, v, scale)
    return out


def _attend_equal(q: Tensor, k: Tensor, v: Tensor, batch: int, scale: float) -> Tensor:
    """Return `attention` of `batch` sequences of equal lengths."""
    q4, k4, v4 = (_heads_first(t, batch) for t in (q, k, v))
    return _attend(q4, k4, v4, scale)


def _heads_first(x: Tensor, batch: int) -> Tensor:
    """Return `[batch * n, heads, D]` as `[batch, heads, n, D]`, a view."""
    return x.view(batch, -1, *x.shape[1:]).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return causal attention `[B * n, H, D]` of `q [B, H, n, D]` over `k`, `v` `[B, KV, m, D]`."""
    q_len, kv_len = q.shape[2], k.shape[2]
    if q_len == 1:
        return _attend_one(q, k, v, scale)
    mask = None if q_len == kv_len else visible(q_len, kv_len, q.device)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2).flatten(0, 1)


def _attend_one(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return `_attend` for one query per sequence, which sees every key: no mask is needed.

    Query heads that share a KV head are given as several queries over the same keys: the kernels compute
    those faster.
    """
    batch, heads, _, dim = q.shape
    grouped = q.reshape(batch, k.shape[1], heads // k.shape[1], dim)
    return F.scaled_dot_product_attention(grouped, k, v, scale=scale).reshape(batch, heads, dim)


def write_kv_pages(k_cache: Tensor, v_cache: Tensor, k: Tensor, v: Tensor, slots: Tensor) -> None:
    """Write `k`, `v` `[T, KV, D]` into pages `[num_pages, page_size, KV, D]`: token `t` to slot `slots[t]`.

    `slots` is int64 `[T]`. A slot is `page * page_size + offset`.
    """
    for cache, new in ((k_cache, k), (v_cache, v)):
        cache.view(-1, *cache.shape[2:]).index_copy_(0, slots, new)


def check_pages(k_cache: Tensor) -> None:
    """Raise ValueError where attention on the cache's device does not read pages of its size and type.

    `k_cache` is `[..., page_size, KV, D]`. The plain version reads pages of any size.
    """


def attention_pages(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, tables: BlockTables, q_start: Sequence[int], scale: float
) -> Tensor:
    """Return causal attention `[T, H, D]` of `q [T, H, D]` over pages `[num_pages, page_size, KV, D]`.

    Sequence `i` owns the queries `q_start[i]:q_start[i + 1]`, and `tables` names its pages. Consecutive pages
    are read in place, other pages are collected first. Sequences of one query each are computed together
    (`decode_rows`).
    """
    out = torch.empty_like(q)
    alone, together = tables.split(q_start)
    for i in alone:
        part = slice(q_start[i], q_start[i + 1])
        k, v = (_sequence(cache, tables, i) for cache in (k_cache, v_cache))
        out[part] = _attend(_heads_first(q[part], 1), k, v, scale)
    for family in together:
        found = _attend_family(q.index_select(0, family.rows), k_cache, v_cache, family, scale)
        out.index_copy_(0, family.rows, found)
    return out


def _sequence(cache: Tensor, tables: BlockTables, i: int) -> Tensor:
    """Return one sequence's keys or values `[1, KV, length, D]`: a view where the pages are consecutive."""
    first, length = tables.neighbours[i], tables.kv_lens[i]
    if first is None:
        found = cache.index_select(0, tables.pages[i]).flatten(0, 1)[:length]
    else:
        found = cache.flatten(0, 1)[first : first + length]
    return found.transpose(0, 1).unsqueeze(0)


def _attend_family(q: Tensor, k_cache: Tensor, v_cache: Tensor, family: Family, scale: float) -> Tensor:
    """Return attention `[n, H, D]` of a family's queries `q [n, H, D]`, one for each sequence.

    Keys of the common beginning are read once for all queries. Two results over two parts of the keys are
    merged by the log-sum-exps of their scores, as in cascade attention (FlashInfer, arXiv:2501.01005) and
    Hydragen (arXiv:2402.05099). One product of many queries replaces many products of one query.
    """
    keys, values = k_cache.flatten(0, 1), v_cache.flatten(0, 1)
    # Query heads that share a KV head become queries over that head.
    grouped = q.view(len(q), keys.shape[1], -1, q.shape[-1])
    ends, start = [], 0
    for slots, mask in family.parts:
        k, v = (t.index_select(0, slots.flatten()).view(*slots.shape, *t.shape[1:]) for t in (keys, values))
        some = grouped[start : start + len(slots)]
        ends.append(_attend_lse(some, k.transpose(1, 2), v.transpose(1, 2), mask, scale))
        start += len(slots)
    out, lse = ends[0] if len(ends) == 1 else map(torch.cat, zip(*ends, strict=True))
    if family.shared is not None:
        k, v = (t.index_select(0, family.shared).transpose(0, 1).unsqueeze(0) for t in (keys, values))
        out = _merge(*_attend_beginning(grouped, k, v, scale), out, lse)
    return out.reshape(q.shape)


def _attend_beginning(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return `_attend_lse` of `q [n, KV, g, D]` over the same `k`, `v` `[1, KV, m, D]` for all.

    All queries are computed as the queries of one sequence.
    """
    by_head = q.transpose(0, 1)
    out, lse = _attend_lse(by_head.flatten(1, 2).unsqueeze(0), k, v, None, scale)
    return out.view(by_head.shape).transpose(0, 1), lse.view(by_head.shape[:-1]).transpose(0, 1)


def _merge(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    """Return attention over two parts of the keys from that over each, weighted by sums of exponentials."""
    share = torch.sigmoid(first_lse - second_lse).unsqueeze(-1)
    return torch.lerp(second.to(share.dtype), first.to(share.dtype), share).to(second.dtype)


def _attend_lse(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Return attention of `q [B, KV, n, D]` over `k`, `v` `[B, KV, m, D]`, and the scores' log-sum-exps.

    Other devices than CPUs give an empty tensor instead of the log-sum-exps.
    """
    mask = None if mask is None else mask.to(q.dtype)
    if q.device.type != "cpu":  # no family has a common beginning there: no sums are needed
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale), q.new_empty(0)
    found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, attn_mask=mask, scale=scale
    )
    return found


def attention_lse(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = True
) -> tuple[Tensor, Tensor]:
    """Return attention `[T, H, D]` of one sequence and the log-sum-exps of its scores, fp32 `[T, H]`.

    `q` is `[T, H, D]`, `k` and `v` are `[Tk, KV, D]`. Two such results over two parts of the keys can be
    merged (`helpers.attention.flash_attention`). This operator stores all scores.
    """
    keys, values = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.float(), keys.float()) * scale
    if causal:
        scores.masked_fill_(~visible(q.shape[0], k.shape[0], q.device), float("-inf"))
    out = torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), values.float())
    return out.to(q.dtype), scores.logsumexp(dim=-1).T


def materialised_attention(
    q: Tensor, k: Tensor, v: Tensor, q_start: Sequence[int], kv_start: Sequence[int], scale: float
) -> Tensor:
    """Return `attention` computed as the formula is written, with all scores of a sequence in memory at once.

    The tests use this operator as the reference, and chapter 1 as the bad example. Scores of a sequence are
    fp32 `[H, q_len, kv_len]`; K and V are repeated for each query head.
    """
    out = torch.empty_like(q)
    for i in range(len(q_start) - 1):
        rows, cols = slice(q_start[i], q_start[i + 1]), slice(kv_start[i], kv_start[i + 1])
        out[rows] = _materialise(q[rows], k[cols], v[cols], scale)
    return out


def _materialise(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return `materialised_attention` of one sequence."""
    keys, values = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, keys).float() * scale
    scores.masked_fill_(~visible(q.shape[0], k.shape[0], q.device), float("-inf"))
    return torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1).to(q.dtype), values)


def visible(q_len: int, kv_len: int, device: torch.device) -> Tensor:
    """Return a bool mask `[q_len, kv_len]`, True where a query sees a key.

    The last query sees every key; each earlier query sees one key less.
    """
    return torch.ones(q_len, kv_len, dtype=torch.bool, device=device).tril(kv_len - q_len)
