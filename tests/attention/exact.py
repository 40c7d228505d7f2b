"""Attention in fp64 by its definition, and any small problem to hold FlashAttention against it."""

import torch
from hypothesis import strategies as st
from torch.nn import functional as F

from helpers import FlashAttention

INF = float("inf")


def visible(q_len, kv_len, causal=True, window=None):
    """Bool `[q_len, kv_len]` by the definition: the last query stands at the last key."""
    ahead = torch.arange(kv_len)[None] - (torch.arange(q_len)[:, None] + kv_len - q_len)
    seen = ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    return seen if window is None else seen & (ahead.abs() < window)


def exact(q, k, v, mask, scale=None, sinks=None):
    """Attention and log-sum-exp in fp64, `[B, H, n, D]`, every score stored; 0 and minus infinity where nothing is seen."""
    q, k, v = q.double(), *(t.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores.masked_fill(~mask, -INF)
    if sinks is not None:
        column = sinks.double()[None, :, None, None].expand(*scores.shape[:3], 1)
        scores, v = torch.cat([column, scores], dim=-1), F.pad(v, (0, 0, 1, 0))
    lse = scores.logsumexp(dim=-1)
    return (scores - lse[..., None].masked_fill(lse[..., None] == -INF, 0)).exp() @ v, lse


def torchs(q, k, v, mask, scale=None):
    """torch's own attention in the tensors' dtype."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def tensors(batch, heads, kv_heads, n, m, dim, v_dim, seed=0, dtype=torch.float32, largest=None):
    """Q, K, V; with `largest`, Q is scaled so that this is the largest score (before any mask)."""
    q, k = randn(batch, heads, n, dim, seed=seed), randn(batch, kv_heads, m, dim, seed=seed + 1)
    if largest is not None and m:
        scores = q.double() @ k.double().repeat_interleave(heads // kv_heads, dim=1).transpose(2, 3)
        q *= largest * dim**0.5 / scores.abs().max().item()
        q.clamp_(-6e4, 6e4)  # what float16 holds
    return q.to(dtype), k.to(dtype), randn(batch, kv_heads, m, v_dim, seed=seed + 2, dtype=dtype)


@st.composite
def problems(draw, dtypes=(torch.float32, torch.bfloat16, torch.float16)):
    """Tensors of any small shape, and a FlashAttention with any tiles and mask."""
    kv_heads, dim = draw(st.integers(1, 3)), draw(st.sampled_from([1, 5, 16, 64]))
    sizes = (
        draw(st.integers(1, 2)),
        kv_heads * draw(st.integers(1, 3)),
        kv_heads,
        draw(st.integers(1, 40)),
        draw(st.integers(0, 40)),
        dim,
        draw(st.sampled_from([dim, 3])),
    )
    largest = draw(st.none() | st.sampled_from([0.1, 10.0, 31.0, 100.0, 1e4]))
    q, k, v = tensors(
        *sizes, seed=draw(st.integers(0, 10**6)), dtype=draw(st.sampled_from(dtypes)), largest=largest
    )
    attention = FlashAttention(
        draw(st.integers(1, 48)),
        draw(st.integers(1, 48)),
        causal=draw(st.booleans()),
        window=draw(st.none() | st.integers(1, 50)),
        num_splits=draw(st.sampled_from([1, 2, 3, 50])),
    )
    return attention, q, k, v


def mask_of(attention, q, k):
    return visible(q.shape[-2], k.shape[-2], attention.causal, attention.window)


def close_to_lse(got, want):
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-5)
