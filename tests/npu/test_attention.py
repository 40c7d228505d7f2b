"""npu_fused_infer_attention_score against attention computed query by query in fp64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.npu.support import (
    assert_rounded,
    attention,
    band,
    bottom_right,
    causal_mask,
    cumulative,
    npu,
    top_left,
)

D, SCALE = 128, 128**-0.5
BF16, FP16 = torch.bfloat16, torch.float16


def pages(
    rows: list[Tensor], table: list[list[int]], blocks: int, block_size: int, heads_first: bool
) -> Tensor:
    """A cache with each sequence's `[tokens, KvN, D]` in its pages; what no token fills is NaN."""
    heads, size = rows[0].shape[1:]
    cache = torch.full((blocks, block_size, heads, size), math.nan, dtype=rows[0].dtype)
    for tokens, ids in zip(rows, table, strict=True):
        for t, token in enumerate(tokens):
            cache[ids[t // block_size], t % block_size] = token
    return cache.transpose(1, 2).contiguous() if heads_first else cache.flatten(2)


def random_sequences(lengths: list[int], heads: int, dtype: torch.dtype, size: int = D) -> list[Tensor]:
    """Random `[length, heads, size]` for each length."""
    return [torch.randn(n, heads, size).to(dtype) for n in lengths]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("dtype", "heads", "kv_heads"), [(BF16, 4, 2), (BF16, 2, 2), (FP16, 2, 2)])
@pytest.mark.parametrize("mode", [0, 3, 4])
def test_packed_prompts(mode: int, dtype: torch.dtype, heads: int, kv_heads: int, version: int):
    q_lens, kv_lens = [5, 1, 7], [5, 3, 9]
    q, k, v = (
        random_sequences(n, h, dtype) for n, h in ((q_lens, heads), (kv_lens, kv_heads), (kv_lens, kv_heads))
    )
    mask, before = (None, 2147483647) if mode == 0 else (causal_mask(), 2)
    shared = dict(
        atten_mask=mask,
        num_key_value_heads=kv_heads,
        input_layout="TND",
        sparse_mode=mode,
        pre_tokens=before,
        next_tokens=0,
    )
    tensors = [torch.cat(t).npu() for t in (q, k, v)]
    if version == 1:
        out, lse = npu.npu_fused_infer_attention_score(
            *tensors, num_heads=heads, scale=SCALE, actual_seq_lengths=cumulative(q_lens),
            actual_seq_lengths_kv=cumulative(kv_lens), softmax_lse_flag=True, **shared,
        )  # fmt: skip
    else:
        out, lse = npu.npu_fused_infer_attention_score_v2(
            *tensors, num_query_heads=heads, softmax_scale=SCALE, actual_seq_qlen=cumulative(q_lens),
            actual_seq_kvlen=cumulative(kv_lens), return_softmax_lse=True, **shared,
        )  # fmt: skip
    visible = {
        0: lambda a, b: torch.ones(a, b, dtype=torch.bool),
        3: bottom_right,
        4: lambda a, b: band(a, b, 2),
    }[mode]
    expected = [attention(*t, visible(len(t[0]), len(t[1]))) for t in zip(q, k, v, strict=True)]
    assert_rounded(out, torch.cat([e[0] for e in expected]))
    assert lse.shape == (sum(q_lens), heads, 1)
    assert_rounded(lse[..., 0], torch.cat([e[1] for e in expected]))


@pytest.mark.parametrize("heads_first", [False, True])
@pytest.mark.parametrize("mode", [3, 4])
def test_packed_with_history_in_pages(mode: int, heads_first: bool):
    """Chunk, decode and prompt in one call; NaN lies in every slot that belongs to no sequence."""
    q_lens, kv_lens, table = [3, 1, 130], [131, 256, 130], [[5, 0], [2, 7], [1, 3]]
    q = random_sequences(q_lens, 4, BF16)
    k, v = (random_sequences(kv_lens, 2, BF16) for _ in range(2))
    out, lse = npu.npu_fused_infer_attention_score_v2(
        torch.cat(q).npu(), *(pages(t, table, 8, 128, heads_first).npu() for t in (k, v)), atten_mask=causal_mask(),
        actual_seq_qlen=cumulative(q_lens), actual_seq_kvlen=kv_lens, block_size=128, num_query_heads=4,
        block_table=torch.tensor(table, dtype=torch.int32).npu(), num_key_value_heads=2, softmax_scale=SCALE,
        input_layout="TND", sparse_mode=mode, pre_tokens=129, next_tokens=0, return_softmax_lse=True,
    )  # fmt: skip
    few = [
        slice(None),
        slice(None),
        slice(0, 130, 43),
    ]  # the reference is slow: four queries of the long prompt
    visible = [
        bottom_right(a, b) if mode == 3 else band(a, b, 129) for a, b in zip(q_lens, kv_lens, strict=True)
    ]
    for i, (start, rows) in enumerate(zip([0, *cumulative(q_lens)], few, strict=False)):
        expected, expected_lse = attention(q[i][rows], k[i], v[i], visible[i][rows])
        assert_rounded(out[start : start + q_lens[i]][rows], expected)
        assert_rounded(lse[start : start + q_lens[i]][rows][..., 0], expected_lse)


def test_a_window_reads_nothing_of_what_it_left_behind():
    """Pages before the window may hold anything: here NaN."""
    k, v = (random_sequences([300], 1, BF16)[0] for _ in range(2))
    k[:128], v[:128] = math.nan, math.nan
    q = random_sequences([2], 1, BF16)[0]
    out, _ = npu.npu_fused_infer_attention_score_v2(
        q.npu(), *(pages([t], [[0, 1, 2]], 3, 128, False).npu() for t in (k, v)), atten_mask=causal_mask(),
        actual_seq_qlen=[2], actual_seq_kvlen=[300], block_table=torch.tensor([[0, 1, 2]], dtype=torch.int32).npu(),
        block_size=128, num_query_heads=1, softmax_scale=SCALE, input_layout="TND", sparse_mode=4, pre_tokens=98, next_tokens=0,
    )  # fmt: skip
    assert_rounded(out, attention(q, k[200:], v[200:], band(2, 100, 98))[0])


def test_packed_values_may_be_smaller_than_keys():
    """Head size 192 with values of 128 is the one unequal pair."""
    q, k, v = (random_sequences([3], 2, BF16, size)[0] for size in (192, 192, 128))
    out, _ = npu.npu_fused_infer_attention_score_v2(
        q.npu(), k.npu(), v.npu(), actual_seq_qlen=[3], actual_seq_kvlen=[3], num_query_heads=2,
        softmax_scale=192**-0.5, input_layout="TND",
    )  # fmt: skip
    assert_rounded(out, attention(q, k, v, torch.ones(3, 3, dtype=torch.bool))[0])


def arranged(rows: Tensor, layout: str) -> Tensor:
    """`[B, S, N, D]` in a layout, on the device."""
    if layout == "BSH":
        return rows.flatten(2).npu()
    return rows.npu() if layout == "BSND" else rows.transpose(1, 2).contiguous().npu()


def restored(out: Tensor, layout: str, heads: int) -> Tensor:
    """`[B, S, N, D]` from a layout."""
    if layout == "BSH":
        return out.unflatten(2, (heads, -1))
    return out if layout.endswith("BSND") else out.transpose(1, 2)


@pytest.mark.parametrize("layout", ["BSH", "BSND", "BNSD", "BNSD_BSND"])
@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(("dtype", "size"), [(FP16, 64), (BF16, 128)])
def test_batches(layout: str, mode: int, dtype: torch.dtype, size: int):
    heads, q_lens, kv_lens = 4, [6, 4], [9, 7]
    q, k, v = (torch.randn(2, s, h, size).to(dtype) for s, h in ((6, heads), (9, 2), (9, 2)))
    own = torch.rand(2, 1, 6, 9) < 0.4
    own[..., 0] = False  # no query is left without a key
    mask = own.npu() if mode in (0, 1) else causal_mask()
    out, lse = npu.npu_fused_infer_attention_score(
        *(arranged(t, layout.partition("_")[0]) for t in (q, k, v)), atten_mask=mask, num_heads=heads,
        num_key_value_heads=2, scale=size**-0.5, input_layout=layout, sparse_mode=mode, pre_tokens=4, next_tokens=1,
        actual_seq_lengths=q_lens, actual_seq_lengths_kv=kv_lens, softmax_lse_flag=True,
        inner_precise=2 if mode == 0 else 0,
    )  # fmt: skip
    assert lse.shape == (2, heads, 6, 1)
    for b, (m, n) in enumerate(zip(q_lens, kv_lens, strict=True)):
        shown = ~own[b, 0, :m, :n]
        near = torch.tensor([[i - 4 <= j <= i + 1 for j in range(n)] for i in range(m)])
        visible = {0: shown & near, 1: shown, 2: top_left(m, n), 3: bottom_right(m, n), 4: band(m, n, 4, 1)}[
            mode
        ]
        rows = visible.any(1)
        expected, expected_lse = attention(q[b, :m][rows], k[b, :n], v[b, :n], visible[rows])
        got = restored(out, layout, heads)[b].cpu()
        assert_rounded(got[:m][rows], expected)
        assert not got[:m][~rows].any(), "a query that sees nothing gives zeros"
        assert not got[m:].any(), "rows beyond the length"
        got_lse = lse[b, ..., 0].T.cpu()
        assert_rounded(got_lse[:m][rows], expected_lse)
        assert got_lse[m:].isinf().all()


@pytest.mark.parametrize(
    ("layout", "heads_first"), [("BSH", False), ("BSND", False), ("BNSD", False), ("BNSD", True)]
)
@pytest.mark.parametrize("block_size", [16, 128])
def test_one_query_over_pages(layout: str, block_size: int, heads_first: bool):
    kv_lens, table = [37, 20], [[5, 0, 3], [7, 2, 1]]
    q = torch.randn(2, 1, 4, 64).half()
    k, v = (random_sequences(kv_lens, 2, FP16, 64) for _ in range(2))
    caches = [pages(t, table, 8, block_size, heads_first).npu() for t in (k, v)]
    out, lse = npu.npu_fused_infer_attention_score(
        arranged(q, layout), *caches, num_heads=4, num_key_value_heads=2, scale=0.125, input_layout=layout,
        block_table=torch.tensor(table, dtype=torch.int32).npu(), block_size=block_size, actual_seq_lengths_kv=kv_lens,
        softmax_lse_flag=True,
    )  # fmt: skip
    assert lse.shape == (2, 4, 1, 1)
    for b in range(2):
        expected, expected_lse = attention(q[b], k[b], v[b], torch.ones(1, kv_lens[b], dtype=torch.bool))
        assert_rounded(restored(out, layout, 4)[b], expected)
        assert_rounded(lse[b, :, :, 0].T, expected_lse)


def test_one_query_ignores_mode_and_window():
    q, k, v = (torch.randn(2, s, 2, 64).half() for s in (1, 5, 5))
    hidden = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 0, 1, 1]], dtype=torch.int8)
    out, _ = npu.npu_fused_infer_attention_score(
        *(arranged(t, "BSND") for t in (q, k, v)), atten_mask=hidden.npu(), num_heads=2, scale=0.125, input_layout="BSND",
        sparse_mode=3, pre_tokens=0, next_tokens=0,
    )  # fmt: skip
    for b in range(2):
        assert_rounded(out[b], attention(q[b], k[b], v[b], ~hidden[b].bool()[None])[0])


def test_a_prompt_over_pages():
    kv_lens, table = [200, 131], [[5, 0], [7, 2]]
    q = torch.randn(2, 3, 4, 64).half()
    k, v = (random_sequences(kv_lens, 2, FP16, 64) for _ in range(2))
    out, _ = npu.npu_fused_infer_attention_score(
        arranged(q, "BSH"), *(pages(t, table, 8, 128, False).npu() for t in (k, v)), atten_mask=causal_mask(),
        num_heads=4, num_key_value_heads=2, scale=0.125, input_layout="BSH", sparse_mode=3, block_size=128,
        block_table=torch.tensor(table, dtype=torch.int32).npu(), actual_seq_lengths_kv=kv_lens,
    )  # fmt: skip
    for b in range(2):
        assert_rounded(
            restored(out, "BSH", 4)[b], attention(q[b], k[b], v[b], bottom_right(3, kv_lens[b]))[0]
        )


def test_a_sink_takes_its_share_of_the_softmax():
    q, k, v = (random_sequences([4], 2, BF16)[0] for _ in range(3))
    sink = torch.tensor([1.5, -0.5]).bfloat16()
    out, lse = npu.npu_fused_infer_attention_score_v2(
        q.npu(), k.npu(), v.npu(), atten_mask=causal_mask(), learnable_sink=sink.npu(), actual_seq_qlen=[4],
        actual_seq_kvlen=[4], num_query_heads=2, softmax_scale=SCALE, input_layout="TND", sparse_mode=3, return_softmax_lse=True,
    )  # fmt: skip
    expected, expected_lse = attention(q, k, v, bottom_right(4, 4), sink.double())
    assert_rounded(out, expected)
    assert_rounded(lse[..., 0], expected_lse)
