"""What the documents of npu_fused_infer_attention_score allow: a call that passes here is one that they describe.

Sources: op-plugin's pages of the operator and its v2 (docs/zh/custom_APIs). The tiling code of CANN 8.5's
ops-transformer (`prompt_flash_attention_tiling.cpp`) counts where the code is stricter. torch_npu reports the
refusals of that code as error 561002. Where page and code differ on packed sequences:

- Block size: the page says a multiple of 16, the code one of 128. Here: 128.
- Dtype: the code takes bfloat16 only. The page takes float16 too, for as many key/value as query heads only. Here:
  float16 for those, bfloat16 everywhere.
- Head size: the code takes 64 for any heads, the page for as many key/value as query heads only. Here: as the page
  says, 192 included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from helpers.emulated_npu.attention import (
    COMPRESSED_MODES,
    hidden_scores,
    is_compressed_shape,
    require_triangle,
)
from helpers.emulated_npu.errors import emulated, require
from helpers.emulated_npu.infer_call import LAYOUTS, InferCall
from helpers.emulated_npu.infer_quant import check_quantised

NAME = "npu_fused_infer_attention_score"
_HALVES = (torch.float16, torch.bfloat16)
_MASK_DTYPES = (torch.bool, torch.int8, torch.uint8)
_REPAIRS_BLANK_ROWS = 2  # bit 1 of inner_precise


def check_call(call: InferCall) -> None:
    """Raise ContractError for what the documents forbid, without a look at the tensors' contents.

    Raises NotEmulated for what the documents allow and the emulation does not have.
    """
    emulated(not call.unsupported, f"{NAME} with {', '.join(call.unsupported)}")
    emulated(len(call.keys) == len(call.values) == 1, f"{NAME} with a list of key tensors")
    emulated(call.layout in LAYOUTS, f"{NAME} with input_layout {call.layout}")
    _check_tensors(call)
    _check_heads(call)
    _check_head_size(call)
    if call.block_table is not None:
        _check_pages(call, call.block_table)
    if call.packed:
        _check_packed(call)
    else:
        _check_batch(call)
    _check_modes(call)
    if call.quantised:
        check_quantised(call)
    if call.block_table is not None:
        _check_table(call, call.block_table)
    if call.mask is not None:
        _check_mask(call, call.mask)
    if call.learnable_sink is not None:
        _check_sink(call, call.learnable_sink)


def check_contents(call: InferCall) -> None:
    """Raise ContractError for forbidden contents, which the device would meet: block ids, masks."""
    if call.block_table is not None:
        blocks = call.k.shape[0]
        for row, length in zip(call.block_table, call.key_lengths(), strict=True):
            ids = row[: call.pages_for(length)]
            inside = bool(((ids >= 0) & (ids < blocks)).all())
            require(inside, f"{NAME}: block ids lie in [0, {blocks - 1}]", ids.tolist()[:16])
    if call.mask is None:
        return
    if call.mode in COMPRESSED_MODES:
        require_triangle(NAME, call.mask)
    elif not call.inner_precise & _REPAIRS_BLANK_ROWS:
        _require_no_blank_row(call)


def _check_tensors(call: InferCall) -> None:
    """Check dtypes, contiguity and ranks."""
    dtypes = (call.q.dtype,) if call.quantised else (call.q.dtype, call.k.dtype, call.v.dtype)
    rule = f"{NAME}: query, key and value share float16 or bfloat16"
    require(dtypes[0] in _HALVES and len(set(dtypes)) == 1, rule, dtypes)
    for name, t in (
        ("query", call.q),
        ("key", call.k),
        ("value", call.v),
        ("atten_mask", call.mask),
        ("block_table", call.block_table),
    ):
        if t is not None:
            require(
                t.is_contiguous(),
                f"{NAME}: {name} is contiguous",
                f"strides {t.stride()} of {tuple(t.shape)}",
            )
    rank = 3 if call.packed or call.layout_in == "BSH" else 4
    require(call.q.dim() == rank, f"{NAME}: {call.layout} has {rank} dimensions", tuple(call.q.shape))
    if not call.paged:
        require(
            call.k.dim() == call.v.dim() == rank,
            f"{NAME}: key and value have {rank} dimensions",
            tuple(call.k.shape),
        )


def _check_heads(call: InferCall) -> None:
    """Check the head counts against those of the tensors."""
    require(1 <= call.heads <= 256, f"{NAME}: 1 to 256 query heads", call.heads)
    came = (call.heads, call.kv_heads)
    require(
        call.kv_heads >= 1 and call.heads % call.kv_heads == 0,
        f"{NAME}: query heads are a multiple of key/value heads",
        came,
    )
    require(
        call.heads // call.kv_heads <= 64, f"{NAME}: at most 64 query heads for each key/value head", came
    )
    axis = {"BSH": None, "BSND": 2, "BNSD": 1, "TND": 1}[call.layout_in]
    if axis is None:
        _require_multiple(call, "query", call.q, call.heads)
    else:
        require(
            call.q.shape[axis] == call.heads,
            f"{NAME}: num_heads is query's, {call.q.shape[axis]}",
            call.heads,
        )
    if call.paged:
        return
    if axis is None:
        _require_multiple(call, "key", call.k, call.kv_heads)
        _require_multiple(call, "value", call.v, call.kv_heads)
    else:
        for name, t in (("key", call.k), ("value", call.v)):
            require(
                t.shape[axis] == call.kv_heads,
                f"{NAME}: num_key_value_heads is {name}'s, {t.shape[axis]}",
                call.kv_heads,
            )


def _require_multiple(call: InferCall, name: str, t: Tensor, heads: int) -> None:
    """Raise unless the last size holds whole heads."""
    require(
        t.shape[-1] % heads == 0,
        f"{NAME}: {name}'s last size is a multiple of its {heads} heads",
        tuple(t.shape),
    )


def _value_size(call: InferCall) -> int:
    """Return the value's head size D."""
    return (
        call.v.shape[-1] // call.kv_heads
        if call.v.dim() == 3 and not (call.packed and not call.paged)
        else call.v.shape[-1]
    )


def _key_size(call: InferCall) -> int:
    """Return the key's head size D."""
    return (
        call.k.shape[-1] // call.kv_heads
        if call.k.dim() == 3 and not (call.packed and not call.paged)
        else call.k.shape[-1]
    )


def _check_head_size(call: InferCall) -> None:
    """Check the head size D of query, key and value."""
    if call.paged:  # the last size of [blocks, block size, KvN * D]
        require(
            call.k.dim() in (3, 4) and call.v.dim() == call.k.dim(),
            f"{NAME}: a paged cache is [blocks, block size, KvN * D] or [blocks, KvN, block size, D]",
            tuple(call.k.shape),
        )
    sizes = (call.head_size, _key_size(call), _value_size(call))
    require(sizes[0] == sizes[1], f"{NAME}: query and key have one head size", sizes)
    require(
        sizes[0] % 16 == 0 and sizes[0] <= 512,
        f"{NAME}: head size is a multiple of 16, at most 512",
        sizes[0],
    )
    multi_head = call.heads == call.kv_heads
    if not call.packed:
        require(
            sizes[1] == sizes[2] and call.k.shape == call.v.shape,
            f"{NAME}: key and value have one shape",
            f"{tuple(call.k.shape)}, {tuple(call.v.shape)}",
        )
        return
    allowed = {(128, 128), (192, 128)}
    if multi_head:
        allowed.add((64, 64))
        if not call.paged:
            allowed.add((192, 192))
    rule = f"{NAME}: TND takes the head sizes (query and key, value) {sorted(allowed)} with {'as many' if multi_head else 'fewer'} key/value heads"
    require(sizes[1:] in allowed, rule, sizes[1:])
    require(
        call.k.shape[:-1] == call.v.shape[:-1],
        f"{NAME}: key and value have one shape",
        f"{tuple(call.k.shape)}, {tuple(call.v.shape)}",
    )


def _check_packed(call: InferCall) -> None:
    """Check lengths, modes and dtype of packed sequences."""
    q_lens, kv_lens = call.q_lens or (), call.kv_lens or ()
    require(bool(q_lens and kv_lens), f"{NAME}: TND needs lengths of queries and of keys", (q_lens, kv_lens))
    both = (len(q_lens), len(kv_lens))
    require(both[0] == both[1], f"{NAME}: as many query as key lengths", both)
    require(both[0] <= 4096, f"{NAME}: at most 4096 sequences", both[0])
    require(call.q.shape[0] <= 1 << 20, f"{NAME}: at most {1 << 20} tokens", call.q.shape[0])
    _check_cumulative("query", q_lens, call.q.shape[0])
    if call.paged:
        _check_each("kv", kv_lens, call.kv_size, "plain (not cumulative) and within the block table's row")
    else:
        _check_cumulative("kv", kv_lens, call.k.shape[0])
    require(call.sparse_mode in (0, 3, 4), f"{NAME}: TND takes sparse_mode 0, 3 and 4", call.sparse_mode)
    if call.sparse_mode == 0:
        require(call.mask is None, f"{NAME}: TND with sparse_mode 0 takes no mask", "one")
    if call.sparse_mode == 3:
        pairs = list(zip(call.query_lengths(), call.key_lengths(), strict=True))
        require(
            all(a <= b for a, b in pairs),
            f"{NAME}: sparse_mode 3 needs as many keys as queries in each sequence",
            pairs[:16],
        )
    if call.q.dtype == torch.float16:
        require(
            call.heads == call.kv_heads,
            f"{NAME}: TND takes float16 with as many key/value as query heads only; bfloat16 otherwise",
            (call.heads, call.kv_heads),
        )
        require(
            call.inner_precise in (0, 1),
            f"{NAME}: TND with float16 takes inner_precise 0 and 1",
            call.inner_precise,
        )
    else:
        require(
            call.inner_precise == 0, f"{NAME}: TND with bfloat16 takes inner_precise 0", call.inner_precise
        )


def _check_cumulative(which: str, ends: Sequence[int], tokens: int) -> None:
    """Check cumulative lengths: no leading 0, never falling, the last the number of tokens (error 561002)."""
    rule = f"{NAME}: {which} lengths of TND are cumulative, without a leading 0, and end in {tokens} tokens (561002)"
    rising = ends[0] > 0 and all(a <= b for a, b in pairwise(ends))
    require(rising and ends[-1] == tokens, rule, list(ends)[:16])


def _check_each(which: str, lengths: Sequence[int], most: int, how: str) -> None:
    """Check that each plain length is 0 to `most`."""
    require(
        all(0 <= n <= most for n in lengths),
        f"{NAME}: {which} lengths are {how}: 0 to {most}",
        list(lengths)[:16],
    )


def _check_batch(call: InferCall) -> None:
    """Check sizes and lengths of sequences in a batch."""
    require(call.batch <= 65536, f"{NAME}: a batch of at most 65536", call.batch)
    if not call.paged:
        require(
            call.k.shape[0] == call.batch,
            f"{NAME}: query and key have one batch size",
            (call.batch, call.k.shape[0]),
        )
    require(call.q_size <= 20 << 20, f"{NAME}: at most {20 << 20} queries in a sequence", call.q_size)
    for which, lengths, most in (("query", call.q_lens, call.q_size), ("kv", call.kv_lens, call.kv_size)):
        if not lengths or (which == "query" and call.decodes):
            continue
        enough = len(lengths) == 1 or len(lengths) >= call.batch
        require(
            enough, f"{NAME}: one {which} length, or one for each of {call.batch} sequences", len(lengths)
        )
        _check_each(which, lengths[: call.batch], most, "plain and within the tensor")
    if call.decodes:
        require(call.kv_size <= 262144, f"{NAME}: at most 262144 keys for one query", call.kv_size)
        require(
            call.inner_precise in (0, 1), f"{NAME}: one query takes inner_precise 0 and 1", call.inner_precise
        )
        require(call.layout != "BNSD_BSND", f"{NAME}: BNSD_BSND is for more than one query", call.layout)
    require(call.inner_precise in range(4), f"{NAME}: inner_precise is 0 to 3", call.inner_precise)


def _check_modes(call: InferCall) -> None:
    """Check sparse_mode, and that a mode that needs a mask has one."""
    emulated(call.sparse_mode != 9, f"{NAME} with sparse_mode 9")
    require(
        call.sparse_mode in range(5),
        f"{NAME}: sparse_mode is 0 to 4 (5 to 8 do not exist yet)",
        call.sparse_mode,
    )
    if call.mode != 0:
        require(call.mask is not None, f"{NAME}: sparse_mode {call.mode} needs atten_mask", None)


def _check_pages(call: InferCall, table: Tensor) -> None:
    """Check the paged cache and the block size, before any code divides by that size."""
    k, size = call.k, call.block_size
    emulated(k.dim() != 5, f"{NAME} with a cache in NZ layout")
    require(bool(call.kv_lens), f"{NAME}: a block table needs key/value lengths", call.kv_lens)
    require(
        table.dtype == torch.int32 and table.dim() == 2,
        f"{NAME}: block_table is int32 [batch, pages]",
        f"{table.dtype} {tuple(table.shape)}",
    )
    require(
        table.shape[0] == call.batch,
        f"{NAME}: one row of block_table for each of {call.batch} sequences",
        tuple(table.shape),
    )
    rule, allowed = _block_size_rule(call)
    require(allowed(size), f"{NAME}: block_size is {rule}", size)
    if k.dim() == 3:
        require(
            k.shape[1] == size,
            f"{NAME}: block_size is that of a cache [blocks, block size, KvN * D], {k.shape[1]}",
            size,
        )
        require(
            k.shape[2] <= 65535,
            f"{NAME}: KvN * D of a cache [blocks, block size, KvN * D] is at most 65535",
            k.shape[2],
        )
        require(
            k.shape[2] % call.kv_heads == 0,
            f"{NAME}: the cache holds {call.kv_heads} whole heads",
            tuple(k.shape),
        )
    else:
        _check_heads_first_cache(call)
    for name, cache in (("key", call.k), ("value", call.v)):
        require(
            cache.numel() < 1 << 31, f"{NAME}: the {name} cache has less than 2 ** 31 elements", cache.numel()
        )


def _check_heads_first_cache(call: InferCall) -> None:
    """Check a cache of four dimensions, [blocks, KvN, block size, D]; not every layout of queries allows one."""
    shape = tuple(call.k.shape)
    rule = "a cache of 4 dimensions is read as [blocks, KvN, block size, D] (flatten [blocks, block size, KvN, D] to 3)"
    fits = call.k.dim() == 4 and shape[1:3] == (call.kv_heads, call.block_size)
    require(fits, f"{NAME}: {rule}; here [blocks, {call.kv_heads}, {call.block_size}, D]", shape)
    require(
        call.layout_in in ("BNSD", "TND"),
        f"{NAME}: {call.layout} queries take a cache [blocks, block size, KvN * D] only",
        shape,
    )
    multi_head = call.packed and call.heads == call.kv_heads
    require(
        not multi_head,
        f"{NAME}: TND with as many key/value heads takes a cache [blocks, block size, KvN * D] only",
        shape,
    )


def _block_size_rule(call: InferCall) -> tuple[str, Callable[[int], bool]]:
    """Return the allowed block sizes for this kind of call, in words and as a test."""
    if call.packed:
        return "a multiple of 128, at most 1024, for TND", lambda n: n > 0 and n % 128 == 0 and n <= 1024
    if call.decodes:
        return "a multiple of 16, at most 512, for one query", lambda n: n > 0 and n % 16 == 0 and n <= 512
    return (
        "a multiple of 128, at most 512, for more than one query",
        lambda n: n > 0 and n % 128 == 0 and n <= 512,
    )


def _check_table(call: InferCall, table: Tensor) -> None:
    """Check the block table's width and the cache's number of blocks against the lengths."""
    pages = [call.pages_for(n) for n in call.key_lengths()]
    require(
        table.shape[1] >= max(pages),
        f"{NAME}: a row of block_table has {max(pages)} pages at least",
        tuple(table.shape),
    )
    require(
        call.k.shape[0] >= sum(pages),
        f"{NAME}: the cache has at least as many blocks as all sequences need, {sum(pages)}",
        call.k.shape[0],
    )


def _check_mask(call: InferCall, mask: Tensor) -> None:
    """Check the mask's dtype and shape."""
    require(mask.dtype in _MASK_DTYPES, f"{NAME}: atten_mask is bool, int8 or uint8", mask.dtype)
    shape = tuple(mask.shape)
    if call.mode in COMPRESSED_MODES:
        require(is_compressed_shape(mask), f"{NAME}: sparse_mode {call.mode} takes a 2048x2048 mask", shape)
        return
    rows, columns = shape[-2:] if len(shape) > 1 else (0, 0)
    if call.decodes and len(shape) == 2:  # (B, KV_S)
        leading, rows = rows == call.batch, 1
    else:
        leading = shape[:-2] in {(), (1,), (1, 1), (call.batch, 1)}
    wide = columns >= call.kv_size if call.paged else _fits_or_is_rounded(columns, call.kv_size)
    rule = f"{NAME}: atten_mask is [Q_S, KV_S], [1, Q_S, KV_S], [B, 1, Q_S, KV_S] or [1, 1, Q_S, KV_S] ([B, KV_S] for one query), sizes exact or rounded up to 16 or 32, and as wide as a row of block_table"
    require(
        leading and _fits_or_is_rounded(rows, call.q_size) and wide,
        f"{rule}; Q_S {call.q_size}, KV_S {call.kv_size}",
        shape,
    )


def _fits_or_is_rounded(size: int, wanted: int) -> bool:
    """Return whether a size is the wanted one, or that rounded up to a multiple of 16 or 32."""
    return size in {wanted, -(-wanted // 16) * 16, -(-wanted // 32) * 32}


def mask_of(call: InferCall, index: int, q_len: int, kv_len: int) -> Tensor | None:
    """Return the part of the mask that is for one sequence."""
    mask = call.mask
    if mask is None or call.mode in COMPRESSED_MODES:
        return mask
    if call.decodes and mask.dim() == 2:
        return mask[index : index + 1, :kv_len]
    if mask.dim() > 2:
        mask = mask.flatten(0, -3)[index if mask.numel() > mask.shape[-1] * mask.shape[-2] else 0]
    return mask[:q_len, :kv_len]


def hidden_from(call: InferCall, index: int, q_len: int, kv_len: int) -> Tensor | None:
    """Return which scores of one sequence are hidden."""
    mask = mask_of(call, index, q_len, kv_len)
    if call.decodes:
        return None if mask is None else mask.bool()
    return hidden_scores(q_len, kv_len, call.mode, mask, call.before, call.after)


def _require_no_blank_row(call: InferCall) -> None:
    """Raise ContractError for a mask that hides every key from a query.

    Without inner_precise 2 or 3 the documents promise no precision for such a query.
    """
    for index, (q_len, kv_len) in enumerate(zip(call.query_lengths(), call.key_lengths(), strict=True)):
        hidden = hidden_from(call, index, q_len, kv_len)
        blank = hidden is not None and kv_len > 0 and bool(hidden.all(-1).any())
        require(
            not blank,
            f"{NAME}: a mask that hides everything from a query needs inner_precise 2 or 3 (True or 1 means hidden)",
            f"one in sequence {index}",
        )


def _check_sink(call: InferCall, sink: Tensor) -> None:
    """Check learnable_sink: bfloat16 `(heads,)`, for packed sequences."""
    require(call.packed, f"{NAME}: learnable_sink is for TND", call.layout)
    require(
        sink.dtype == torch.bfloat16 and tuple(sink.shape) == (call.heads,),
        f"{NAME}: learnable_sink is bfloat16 ({call.heads},)",
        f"{sink.dtype} {tuple(sink.shape)}",
    )
    require(
        _value_size(call) in (64, 128),
        f"{NAME}: learnable_sink needs a value head size of 64 or 128",
        _value_size(call),
    )
