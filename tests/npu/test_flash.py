"""FlashAttention beside the NPU's fused operators: the same result and the same log-sum-exp, whole and in parts."""

from __future__ import annotations

import pytest
import torch

from helpers import FlashAttention, emulated_npu, ops
from helpers.attention import merge
from tests.npu.test_ops import TOLERANCE, TYPES, close, ran, randn

OPERATORS = {
    torch.float32: "FlashAttentionScore",
    torch.float16: "FusedInferAttentionScore",
    torch.bfloat16: "FusedInferAttentionScore",
}


def flash(q, k, v, **options):
    """Ours on packed tensors `[T, heads, D]` of one sequence: the result and the lse, packed alike."""
    rows = (t.transpose(0, 1)[None] for t in (q, k, v))
    out, lse = FlashAttention(16, 32, **options)(*rows, return_lse=True)
    return out[0].transpose(0, 1), lse[0].T


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (1, 70), (5, 33)])
def test_a_fused_operator_gives_the_result_and_the_lse(dtype, causal, n, m):
    q, k, v = randn(n, 9, 64, dtype=dtype), *(randn(m, 3, 64, dtype=dtype) for _ in range(2))
    with emulated_npu.trace() as names:
        out, lse = ops.attention_lse(q.npu(), k.npu(), v.npu(), 0.125, causal=causal)
    assert ran(names, OPERATORS[dtype]) == 1, names
    want, want_lse = flash(q, k, v, causal=causal)
    close(out, want, dtype)
    torch.testing.assert_close(lse.cpu(), want_lse, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_parts_of_the_keys_computed_on_the_device_merge(dtype):
    q, k, v = randn(1, 4, 64, dtype=dtype), *(randn(90, 2, 64, dtype=dtype) for _ in range(2))
    on_device = [t.npu() for t in (q, k, v)]
    parts = []
    for span in (slice(0, 31), slice(31, 90)):
        out, lse = ops.attention_lse(on_device[0], *(t[span] for t in on_device[1:]), 0.125, causal=False)
        parts.append((out, lse))
    merged = merge(parts)
    want, want_lse = flash(q, k, v)
    close(merged.out, want, dtype)
    torch.testing.assert_close(merged.lse.cpu(), want_lse, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_packed_prompts_are_flash_attention_of_each(dtype):
    lengths, starts = (7, 21), [0, 7, 28]
    q, k, v = randn(28, 4, 64, dtype=dtype), *(randn(28, 2, 64, dtype=dtype) for _ in range(2))
    got = ops.attention(q.npu(), k.npu(), v.npu(), starts, starts, 0.125)
    for start, length in zip(starts, lengths, strict=False):
        part = slice(start, start + length)
        close(got[part], flash(q[part], k[part], v[part])[0], dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_ours_runs_on_the_device_itself(dtype):
    q, k, v = randn(2, 4, 20, 64, dtype=dtype), *(randn(2, 2, 20, 64, dtype=dtype) for _ in range(2))
    attention = FlashAttention(8, 8, window=9)
    out, lse = attention(q.npu(), k.npu(), v.npu(), kv_lens=[20, 13], return_lse=True)
    assert out.device.type == "npu"
    want, want_lse = attention(q, k, v, kv_lens=[20, 13], return_lse=True)
    torch.testing.assert_close(out.cpu(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    torch.testing.assert_close(lse.cpu(), want_lse, atol=1e-5, rtol=1e-5)
