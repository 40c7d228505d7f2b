"""Attention on an Ascend NPU, by the operators FIA (16 bits) and fusion attention (fp32).

Their names are `npu_fused_infer_attention_score` and `npu_fusion_attention`. FIA has no fp32. Fusion
attention has fp32, but no pages. The documents decide the layout of a call to FIA. A head dimension of 128
allows the packed layout (TND); other dimensions, such as SmolLM2's 64, need `BSH` or `BNSD`. Both operators
have two traps: the scale is 1 unless given, and True in a mask means hidden. Where two documents disagree,
the narrower one is followed: packed fp16 needs as many KV heads as query heads.

FIA takes head dimensions that are multiples of 16. Other heads, such as 100 or 120, are padded with zeros: zeros
change no score, and the output's last elements are cut off. Their keys and values are copied in each call.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch_npu
from torch import Tensor
from torch.nn import functional as F

from helpers.ops.block_tables import BlockTables

_BOTTOM_RIGHT = 3  # sparse_mode: the last query sees the last key
_TND_DIM = 128
_LARGEST_PAGE = 512
_FIA_STEP = 16  # head dimensions are multiples of this
_MOST_DIM = {torch.float32: 768}
_MOST_DIM_16_BITS = 512
_MOST_HEADS, _MOST_SHARING = 256, 64


def check_heads(weight: Tensor, heads: int, kv_heads: int, head_dim: int) -> None:
    """Raise ValueError for heads that the NPU's operators do not take, padded or not, in the weight's type.

    The limits are those of FIA, of fusion attention (fp32) and of `npu_rotary_mul`.
    """
    most = _MOST_DIM.get(weight.dtype, _MOST_DIM_16_BITS)
    problems = {
        f"heads of {head_dim} elements; {weight.dtype} allows {most} at most": head_dim > most,
        f"heads of {head_dim} elements; rotation needs an even number": head_dim % 2 != 0,
        f"{heads} query heads; {_MOST_HEADS} are allowed at most": heads > _MOST_HEADS,
        f"{heads} query heads on {kv_heads} KV heads; {_MOST_SHARING} may share one at most": (
            weight.dtype != torch.float32 and heads > _MOST_SHARING * kv_heads
        ),
    }
    for problem in (name for name, found in problems.items() if found):
        raise ValueError(f"the NPU's attention operators do not take this model's {problem}")


def attention(
    q: Tensor, k: Tensor, v: Tensor, q_start: Sequence[int], kv_start: Sequence[int], scale: float
) -> Tensor:
    """Return what the plain version returns.

    Packed lengths are cumulative, without the leading 0; the last length is the number of tokens.
    """
    if q.dtype == torch.float32:
        return _fusion(q, k, v, q_start[1:], kv_start[1:], scale)
    if _may_pack(q, k.shape[1]):
        return _fia_tnd(q, k, v, list(q_start[1:]), list(kv_start[1:]), scale)[0]
    out = torch.empty_like(q)
    for (a, b), (c, d) in zip(pairwise(q_start), pairwise(kv_start), strict=True):
        q4, k4, v4 = (_heads_first(t) for t in (q[a:b], k[c:d], v[c:d]))
        out[a:b] = _fia_bnsd(q4, k4, v4, [d - c], scale)[0][0].transpose(0, 1)
    return out


def attention_rows(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    rows: Sequence[int],
    q_start: Sequence[int],
    kv_lens: Sequence[int],
    scale: float,
) -> Tensor:
    """Return what the plain version returns; rows are read in place.

    The rows' lengths are given as a list, so that no key behind a row's length counts. A decode step over
    neighbouring rows is one call, whatever the lengths.
    """
    decode, first, batch = len(q) == len(rows), rows[0], len(rows)
    if q.dtype != torch.float32 and decode and all(row == first + i for i, row in enumerate(rows)):
        k, v = (cache[first : first + batch] for cache in (k_cache, v_cache))
        return _fia_bnsd(q[:, :, None], k, v, list(kv_lens), scale)[0][:, :, 0]
    out = torch.empty_like(q)
    for i, row in enumerate(rows):
        part = slice(q_start[i], q_start[i + 1])
        k, v = (cache[row : row + 1] for cache in (k_cache, v_cache))
        if q.dtype == torch.float32:  # fusion attention takes no lengths: give the used part, packed
            k, v = (t[0, :, : kv_lens[i]].transpose(0, 1) for t in (k, v))
            out[part] = _fusion(q[part], k, v, [len(q[part])], [kv_lens[i]], scale)
        else:
            out[part] = _fia_bnsd(_heads_first(q[part]), k, v, [kv_lens[i]], scale)[0][0].transpose(0, 1)
    return out


def check_pages(k_cache: Tensor) -> None:
    """Raise ValueError for pages in 16 bits of more than 512 tokens, the most that FIA reads.

    Pages in fp32 and pages of padded heads are collected before attention and may have any size. For packed
    queries one section of FIA's document allows 1024 tokens, another section 512: the smaller number is taken.
    """
    page_size, dim = k_cache.shape[-3], k_cache.shape[-1]
    read_in_place = k_cache.dtype != torch.float32 and dim % _FIA_STEP == 0
    if read_in_place and page_size > _LARGEST_PAGE:
        raise ValueError(
            f"pages of {page_size} tokens: attention on an NPU reads pages of {_LARGEST_PAGE} tokens at most in 16 bits"
        )


def attention_pages(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, tables: BlockTables, q_start: Sequence[int], scale: float
) -> Tensor:
    """Return what the plain version returns.

    Packed queries over pages take *plain* lengths of keys, not cumulative ones.
    Pages that FIA does not read are collected first: pages in fp32, pages of heads that must be padded, and
    in prefill pages that are no multiple of 128 tokens. Raise ValueError for pages that `check_pages` refuses.
    """
    check_pages(k_cache)
    num_pages, page_size, kv_heads, dim = k_cache.shape
    decode, packed = len(q) == len(tables), _may_pack(q, kv_heads)
    paged = page_size % 128 == 0 or (decode and not packed and page_size % 16 == 0)
    if q.dtype == torch.float32 or dim % _FIA_STEP or not paged:
        kv_start = [0, *accumulate(tables.kv_lens)]
        k, v = (cache.flatten(0, 1)[tables.slots] for cache in (k_cache, v_cache))
        return attention(q, k, v, q_start, kv_start, scale)
    # FIA reads a cache of four dimensions as [pages, KV, page_size, D].
    k, v = (cache.view(num_pages, page_size, -1) for cache in (k_cache, v_cache))
    pages: dict[str, Any] = dict(block_table=tables.padded, block_size=page_size, kv_heads=kv_heads)
    if packed:
        return _fia_tnd(q, k, v, list(q_start[1:]), tables.kv_lens, scale, **pages)[0]
    if decode:
        return _fia_bsh(q.flatten(1)[:, None], k, v, tables.kv_lens, scale, q.shape[1], **pages)[
            :, 0
        ].view_as(q)
    out = torch.empty_like(q)
    for i, (a, b) in enumerate(pairwise(q_start)):
        pages["block_table"] = tables.padded[i : i + 1]
        part = _fia_bsh(q[a:b].flatten(1)[None], k, v, [tables.kv_lens[i]], scale, q.shape[1], **pages)
        out[a:b] = part[0].view_as(q[a:b])
    return out


def attention_lse(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = True
) -> tuple[Tensor, Tensor]:
    """Return what the plain version returns; fusion attention gives log-sum-exps as maximum and sum."""
    if q.dtype == torch.float32:
        return _fusion_lse(q, k, v, scale, causal)
    q4, k4, v4 = (_heads_first(t) for t in (q, k, v))
    out, lse = _fia_bnsd(q4, k4, v4, [len(k)], scale, causal=causal, return_softmax_lse=True)
    return out[0].transpose(0, 1), lse[0, :, :, 0].T


def _may_pack(q: Tensor, kv_heads: int) -> bool:
    """Return whether FIA may take the packed layout: head dimension 128, and bf16 or no shared KV heads."""
    return q.shape[-1] == _TND_DIM and (q.dtype == torch.bfloat16 or q.shape[1] == kv_heads)


def _fia_tnd(
    q: Tensor, k: Tensor, v: Tensor, q_ends: list[int], kv_lens: list[int], scale: float,
    kv_heads: int = 0, **pages: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Call FIA over packed queries `[T, H, D]`; keys are packed as well, or in pages."""
    return _fia(
        q.contiguous(), k.contiguous(), v.contiguous(), "TND", q.shape[1], kv_heads or k.shape[1], scale,
        q_lens=q_ends, kv_lens=kv_lens, sparse_mode=_BOTTOM_RIGHT, atten_mask=_mask(q.device), **pages,
    )  # fmt: skip


def _fia_bnsd(
    q: Tensor, k: Tensor, v: Tensor, kv_lens: list[int], scale: float, causal: bool = True, **more: Any
) -> tuple[Tensor, Tensor]:
    """Call FIA over `q [B, H, n, D]` and the first `kv_lens` positions of `k`, `v` `[B, KV, m, D]`.

    Heads that FIA does not take are padded.
    """
    if lacking := -q.shape[-1] % _FIA_STEP:
        used = max(kv_lens)
        q, k, v = (F.pad(t, (0, lacking)) for t in (q, k[:, :, :used], v[:, :, :used]))
        out, lse = _fia_bnsd(q, k, v, kv_lens, scale, causal, **more)
        return out[..., :-lacking], lse
    if causal and q.shape[2] > 1:
        more |= dict(sparse_mode=_BOTTOM_RIGHT, atten_mask=_mask(q.device), q_lens=[q.shape[2]] * q.shape[0])
    return _fia(
        q.contiguous(), k.contiguous(), v.contiguous(), "BNSD", q.shape[1], k.shape[1], scale, kv_lens=kv_lens, **more
    )  # fmt: skip


def _fia_bsh(
    q: Tensor, k: Tensor, v: Tensor, kv_lens: list[int], scale: float, heads: int, kv_heads: int, **more: Any
) -> Tensor:
    """Call FIA over `q [B, n, H * D]` and pages `[num_pages, page_size, KV * D]`."""
    if q.shape[1] > 1:
        more |= dict(sparse_mode=_BOTTOM_RIGHT, atten_mask=_mask(q.device), q_lens=[q.shape[1]] * q.shape[0])
    return _fia(q.contiguous(), k, v, "BSH", heads, kv_heads, scale, kv_lens=kv_lens, **more)[0]


def _fia(
    q: Tensor, k: Tensor, v: Tensor, layout: str, heads: int, kv_heads: int, scale: float, **more: Any
) -> tuple[Tensor, Tensor]:
    """Call version 2 of FIA where torch_npu has it, else version 1, whose arguments have other names."""
    if hasattr(torch_npu, "npu_fused_infer_attention_score_v2"):
        call, names = torch_npu.npu_fused_infer_attention_score_v2, _V2
    else:
        call, names = torch_npu.npu_fused_infer_attention_score, _V1
    options = {names.get(name, name): value for name, value in more.items()}
    options |= {names["heads"]: heads, "num_key_value_heads": kv_heads, names["scale"]: scale}
    out, lse = call(q, k, v, input_layout=layout, **options)
    return out, lse


_V2 = {
    "heads": "num_query_heads",
    "scale": "softmax_scale",
    "q_lens": "actual_seq_qlen",
    "kv_lens": "actual_seq_kvlen",
}
_V1 = {
    "heads": "num_heads",
    "scale": "scale",
    "q_lens": "actual_seq_lengths",
    "kv_lens": "actual_seq_lengths_kv",
    "return_softmax_lse": "softmax_lse_flag",
}


def _fusion(
    q: Tensor, k: Tensor, v: Tensor, q_ends: Sequence[int], kv_ends: Sequence[int], scale: float
) -> Tensor:
    """Call `npu_fusion_attention` over packed sequences.

    Without a mask the operator ignores its sparse mode, silently. Where each sequence has one query, that
    query sees every key, and no mask is needed.
    """
    decode = list(q_ends) == list(range(1, len(q) + 1))
    options: dict[str, Any] = {} if decode else dict(sparse_mode=_BOTTOM_RIGHT, atten_mask=_mask(q.device))
    out: Tensor = torch_npu.npu_fusion_attention(
        q.contiguous(), k.contiguous(), v.contiguous(), q.shape[1], "TND", scale=scale,
        actual_seq_qlen=list(q_ends), actual_seq_kvlen=list(kv_ends), **options,
    )[0]  # fmt: skip
    return out


def _fusion_lse(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """Return `npu_fusion_attention` of one sequence, and the log-sum-exp of its scores.

    The operator gives a maximum and a sum instead, each eight times.
    """
    options: dict[str, Any] = dict(sparse_mode=_BOTTOM_RIGHT, atten_mask=_mask(q.device)) if causal else {}
    q4, k4, v4 = (_heads_first(t).contiguous() for t in (q, k, v))
    out, maximum, total, *_ = torch_npu.npu_fusion_attention(
        q4, k4, v4, q.shape[1], "BNSD", scale=scale, **options
    )
    return out[0].transpose(0, 1), (maximum + total.log())[0, :, :, 0].T


@functools.cache
def _mask(device: torch.device) -> Tensor:
    """Return the causal mask of sparse modes 2 to 4 for any lengths: 2048 x 2048, True above the diagonal."""
    return torch.ones(2048, 2048, dtype=torch.bool, device=device).triu(1)


def _heads_first(x: Tensor) -> Tensor:
    """Return one sequence `[n, heads, D]` as `[1, heads, n, D]`."""
    return x.transpose(0, 1).unsqueeze(0)
