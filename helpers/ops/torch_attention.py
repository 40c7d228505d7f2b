"""Attention and the writing of keys and values in plain torch, for every device.

Shapes: `T` new tokens of all sequences packed one after the other (no padding), `H` query heads, `KV` key/value
heads with `H % KV == 0`, `D` head dimension. Masks are causal and aligned at the bottom right: a sequence's last query
sees its last key.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.ops.block_tables import BlockTables
from helpers.ops.decode_rows import Family


def attention(
    q: Tensor, k: Tensor, v: Tensor, q_start: Sequence[int], kv_start: Sequence[int], scale: float
) -> Tensor:
    """Causal attention of packed ragged sequences: `q [T, H, D]`, `k`, `v` `[Tk, KV, D]` -> `[T, H, D]`.

    Sequence `i` owns the queries `q_start[i]:q_start[i + 1]` and the keys `kv_start[i]:kv_start[i + 1]`; its last
    query sees its last key (the mask is aligned at the bottom right). K and V are never repeated per query head,
    scores are never stored. Sequences of one length are computed in one call.
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
    """Writes `k`, `v` `[T, KV, D]` into `[B, KV, max_seq_len, D]`, token `t` at row `rows[t]`, place `positions[t]`."""
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
    """Causal attention `q [T, H, D]` -> `[T, H, D]` over rows of `k_cache`, `v_cache` `[B, KV, max_seq_len, D]`.

    Sequence `i` owns the queries `q_start[i]:q_start[i + 1]`; its keys are the first `kv_lens[i]` of row `rows[i]`, read in
    place. Rows of one length that lie side by side are computed in one call.
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
    """`attention` for `batch` sequences of equal lengths."""
    q4, k4, v4 = (_heads_first(t, batch) for t in (q, k, v))
    return _attend(q4, k4, v4, scale)


def _heads_first(x: Tensor, batch: int) -> Tensor:
    """`[batch * n, heads, D]` -> `[batch, heads, n, D]`, a view."""
    return x.view(batch, -1, *x.shape[1:]).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention of `q [B, H, n, D]` over `k`, `v` `[B, KV, m, D]` -> `[B * n, H, D]`; K and V are never repeated."""
    q_len, kv_len = q.shape[2], k.shape[2]
    if q_len == 1:
        return _attend_one(q, k, v, scale)
    mask = None if q_len == kv_len else visible(q_len, kv_len, q.device)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2).flatten(0, 1)


def _attend_one(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """`_attend` for one query per sequence, which sees every key: no mask, and the heads that share keys stand as queries.

    Several query heads over one KV head are several queries over the same keys, which the kernels do faster.
    """
    batch, heads, _, dim = q.shape
    grouped = q.reshape(batch, k.shape[1], heads // k.shape[1], dim)
    return F.scaled_dot_product_attention(grouped, k, v, scale=scale).reshape(batch, heads, dim)


def write_kv_pages(k_cache: Tensor, v_cache: Tensor, k: Tensor, v: Tensor, slots: Tensor) -> None:
    """Writes `k`, `v` `[T, KV, D]` into pages `[num_pages, page_size, KV, D]`: token `t` at slot `slots[t]`, int64 `[T]`.

    A slot is `page * page_size + offset`.
    """
    for cache, new in ((k_cache, k), (v_cache, v)):
        cache.view(-1, *cache.shape[2:]).index_copy_(0, slots, new)


def attention_pages(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, tables: BlockTables, q_start: Sequence[int], scale: float
) -> Tensor:
    """Causal attention `q [T, H, D]` -> `[T, H, D]` over pages of `k_cache`, `v_cache` `[num_pages, page_size, KV, D]`.

    Sequence `i` owns the queries `q_start[i]:q_start[i + 1]`; `tables` says where its keys lie. Neighbouring pages are read
    in place, others are collected first. Sequences of one query each are computed together (`decode_rows`).
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
    """One sequence's keys or values `[1, KV, length, D]` out of its pages: a view where these lie side by side."""
    first, length = tables.neighbours[i], tables.kv_lens[i]
    if first is None:
        found = cache.index_select(0, tables.pages[i]).flatten(0, 1)[:length]
    else:
        found = cache.flatten(0, 1)[first : first + length]
    return found.transpose(0, 1).unsqueeze(0)


def _attend_family(q: Tensor, k_cache: Tensor, v_cache: Tensor, family: Family, scale: float) -> Tensor:
    """Attention of one query per sequence, `q [n, H, D]` -> `[n, H, D]`; what they share is read once for all.

    Two results over two parts of the keys are merged by their scores' log-sum-exps, as in cascade attention (FlashInfer,
    arXiv:2501.01005) and Hydragen (arXiv:2402.05099): one product of many queries replaces many of one.
    """
    keys, values = k_cache.flatten(0, 1), v_cache.flatten(0, 1)
    grouped = q.view(len(q), keys.shape[1], -1, q.shape[-1])  # heads that share keys stand as queries
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
    """`_attend_lse` of `q [n, KV, g, D]`, all over the same `k`, `v` `[1, KV, m, D]`, as if they were one sequence's queries."""
    by_head = q.transpose(0, 1)
    out, lse = _attend_lse(by_head.flatten(1, 2).unsqueeze(0), k, v, None, scale)
    return out.view(by_head.shape).transpose(0, 1), lse.view(by_head.shape[:-1]).transpose(0, 1)


def _merge(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    """The attention over both parts of the keys from those over each: their sums of exponentials are the weights."""
    share = torch.sigmoid(first_lse - second_lse).unsqueeze(-1)
    return torch.lerp(second.to(share.dtype), first.to(share.dtype), share).to(second.dtype)


def _attend_lse(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of `q [B, KV, n, D]` over `k`, `v` `[B, KV, m, D]`, all visible but for the mask, and its scores' log-sum-exps."""
    mask = None if mask is None else mask.to(q.dtype)
    if q.device.type != "cpu":  # families share nothing there, so nobody asks for the sums
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale), q.new_empty(0)
    found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, attn_mask=mask, scale=scale
    )
    return found


def attention_lse(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = True
) -> tuple[Tensor, Tensor]:
    """Attention of one sequence and the log-sum-exp of its scores: `q [T, H, D]`, `k`, `v` `[Tk, KV, D]` -> out, fp32 `[T, H]`.

    Two such results over two parts of the keys can be merged (`helpers.attention.flash_attention`). Scores are stored here.
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
    """`attention` as the formula reads, every score in memory at once: the reference, and chapter 1's bad example.

    Scores are fp32 `[H, q_len, kv_len]` for each sequence; K and V are repeated for each query head.
    """
    out = torch.empty_like(q)
    for i in range(len(q_start) - 1):
        rows, cols = slice(q_start[i], q_start[i + 1]), slice(kv_start[i], kv_start[i + 1])
        out[rows] = _materialise(q[rows], k[cols], v[cols], scale)
    return out


def _materialise(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """`materialised_attention` of one sequence."""
    keys, values = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, keys).float() * scale
    scores.masked_fill_(~visible(q.shape[0], k.shape[0], q.device), float("-inf"))
    return torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1).to(q.dtype), values)


def visible(q_len: int, kv_len: int, device: torch.device) -> Tensor:
    """Bool `[q_len, kv_len]`, True where a query may look: the last query sees the last key, each earlier one a key less."""
    return torch.ones(q_len, kv_len, dtype=torch.bool, device=device).tril(kv_len - q_len)
