"""Every operator of `helpers.ops` on the NPU against its plain version: fp32 nearly equal, 16 bits within rounding."""

from __future__ import annotations

import pytest
import torch
import torch_npu

from helpers import PagedKVCache, emulated_npu, ops
from helpers.ops import npu_attention, torch_attention, torch_ops

TYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
FIA = "aclnnFusedInferAttentionScore"


def randn(*size, dtype=torch.float32):
    return torch.randn(*size).to(dtype)


def close(got, want, dtype):
    assert got.dtype == want.dtype
    torch.testing.assert_close(got.float().cpu(), want.float(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def ran(names, part):
    return sum(part in name for name in names)


@pytest.mark.parametrize("dtype", TYPES)
def test_norms_rotation_activation_product(dtype):
    x, residual, weight = (randn(5, 48, dtype=dtype) for _ in range(3))
    close(ops.rms_norm(x.npu(), weight[0].npu(), 0.3), torch_ops.rms_norm(x, weight[0], 0.3), dtype)
    got = ops.add_rms_norm(x.npu(), residual.npu(), weight[0].npu(), 0.3)
    want = torch_ops.add_rms_norm(x, residual.clone(), weight[0], 0.3)
    close(got[0], want[0], dtype)
    close(got[1], want[1], dtype)
    heads, angles = randn(5, 3, 16, dtype=dtype), torch.randn(5, 1, 8).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    close(ops.rotary(heads.npu(), cos.npu(), sin.npu()), torch_ops.rotary(heads, cos, sin), dtype)
    close(ops.swiglu(x.npu()), torch_ops.swiglu(x.clone()), dtype)
    w, bias = randn(7, 48, dtype=dtype), randn(7, dtype=dtype)
    close(ops.linear(x.npu() / 7, w.npu(), bias.npu()), torch_ops.linear(x / 7, w, bias), dtype)
    assert ops.pack_weight(w.npu()).device.type == "npu", "nothing to pack there"


def test_rotation_of_a_strided_view():
    wide = randn(4, 5, 32)
    x, angles = wide[..., :16], torch.randn(4, 1, 16)
    got = ops.rotary(wide.npu()[..., :16], angles.cos().npu(), angles.sin().npu())
    close(got, torch_ops.rotary(x, angles.cos(), angles.sin()), torch.float32)


CASES = {
    "prompts": ([7, 1, 130], [7, 1, 130]),
    "one prompt": ([33], [33]),
    "chunks with history": ([3, 5, 2], [9, 5, 40]),
    "decode": ([1, 1, 1], [1, 17, 64]),
    "mixed": ([1, 6, 1], [20, 6, 200]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(9, 3, 64), (4, 2, 128), (2, 2, 128), (4, 1, 16), (4, 2, 100)]
)
def test_packed_attention(case, dtype, heads, kv_heads, dim):
    new, total = CASES[case]
    q = randn(sum(new), heads, dim, dtype=dtype)
    k, v = (randn(sum(total), kv_heads, dim, dtype=dtype) for _ in range(2))
    q_start, kv_start = ([0, *torch.tensor(n).cumsum(0).tolist()] for n in (new, total))
    with emulated_npu.trace() as names:
        got = ops.attention(q.npu(), k.npu(), v.npu(), q_start, kv_start, dim**-0.5)
    close(got, torch_attention.attention(q, k, v, q_start, kv_start, dim**-0.5), dtype)
    packed = dtype == torch.float32 or (dim == 128 and (dtype == torch.bfloat16 or heads == kv_heads))
    calls = 1 if packed else len(new)
    assert ran(names, "aclnnFlashAttention" if dtype == torch.float32 else FIA) == calls


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(9, 3, 64), (4, 2, 128), (4, 2, 120)])
def test_rows(case, dtype, heads, kv_heads, dim):
    new, total = CASES[case]
    rows, room = [4, 1, 2][: len(new)], max(total) + 8
    cache = {
        where: [torch.full((6, kv_heads, room, dim), float("nan")).to(dtype) for _ in "kv"]
        for where in ("cpu", "npu")
    }
    cache["npu"] = [t.npu() for t in cache["npu"]]
    k, v = (randn(sum(total), kv_heads, dim, dtype=dtype) for _ in "kv")
    places = torch.cat([torch.arange(n) for n in total])
    row_of = torch.tensor(rows).repeat_interleave(torch.tensor(total))
    torch_attention.write_kv_rows(*cache["cpu"], k, v, row_of, places)
    ops.write_kv_rows(*cache["npu"], k.npu(), v.npu(), row_of.npu(), places.npu())
    for got, want in zip(cache["npu"], cache["cpu"], strict=True):
        torch.testing.assert_close(got.cpu(), want, equal_nan=True, atol=0, rtol=0)
    q, q_start = randn(sum(new), heads, dim, dtype=dtype), [0, *torch.tensor(new).cumsum(0).tolist()]
    got = ops.attention_rows(q.npu(), *cache["npu"], rows, q_start, total, dim**-0.5)
    close(got, torch_attention.attention_rows(q, *cache["cpu"], rows, q_start, total, dim**-0.5), dtype)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("page_size", [16, 32, 64, 128])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(9, 3, 64), (4, 2, 128), (4, 2, 100)])
def test_pages(case, dtype, page_size, heads, kv_heads, dim):
    """Shuffled pages, poison in every slot that no token fills."""
    new, total = CASES[case]
    counts = [-(-n // page_size) for n in total]
    order = torch.randperm(sum(counts) + 3).tolist()
    tables = [[order.pop() for _ in range(n)] for n in counts]
    shape = (sum(counts) + 3, page_size, kv_heads, dim)
    k, v = (randn(sum(total), kv_heads, dim, dtype=dtype) for _ in "kv")
    slots = torch.tensor(
        [
            t[i // page_size] * page_size + i % page_size
            for t, n in zip(tables, total, strict=True)
            for i in range(n)
        ]
    )
    plain = [torch.full(shape, float("nan")).to(dtype) for _ in "kv"]
    fused = [t.npu() for t in plain]
    torch_attention.write_kv_pages(*plain, k, v, slots)
    ops.write_kv_pages(*fused, k.npu(), v.npu(), slots.npu())
    for got, want in zip(fused, plain, strict=True):
        torch.testing.assert_close(got.cpu(), want, equal_nan=True, atol=0, rtol=0)
    q, q_start = randn(sum(new), heads, dim, dtype=dtype), [0, *torch.tensor(new).cumsum(0).tolist()]
    with emulated_npu.trace() as names:
        got = ops.attention_pages(
            q.npu(), *fused, ops.BlockTables(tables, total, page_size, "npu"), q_start, dim**-0.5
        )
    close(
        got,
        torch_attention.attention_pages(
            q, *plain, ops.BlockTables(tables, total, page_size), q_start, dim**-0.5
        ),
        dtype,
    )
    assert ran(names, FIA) == _expected_calls(dtype, page_size, dim, new)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("page_size", [528, 640, 1024])
@pytest.mark.parametrize("dim", [64, 128])
def test_pages_over_512_tokens_are_refused_before_any_operator(page_size, dtype, dim):
    """By the cache when it is made, and by attention; a CPU reads pages of any size."""
    sizes = dict(num_layers=1, page_size=page_size, num_pages=2, num_kv_heads=2, head_dim=dim, dtype=dtype)
    PagedKVCache(**sizes, device="cpu")
    message = f"pages of {page_size} tokens: attention on an NPU reads pages of 512 tokens at most"
    with pytest.raises(ValueError, match=message):
        PagedKVCache(**sizes, device="npu")
    pages = torch.zeros(2, page_size, 2, dim, dtype=dtype).npu()
    q = randn(1, 4, dim, dtype=dtype).npu()
    with emulated_npu.trace() as names, pytest.raises(ValueError, match=message):
        ops.attention_pages(q, pages, pages, ops.BlockTables([[0]], [5], page_size, "npu"), [0, 1], 1.0)
    assert names == []


@pytest.mark.parametrize("case", ["decode", "mixed"])
@pytest.mark.parametrize(
    ("page_size", "dtype", "dim"),
    [*((512, dtype, 128) for dtype in TYPES), (1024, torch.float32, 128), (1024, torch.bfloat16, 24)],
)
def test_large_pages_that_an_npu_reads(page_size, case, dtype, dim):
    """512 tokens in every type; more in fp32 and with padded heads, whose pages are collected first."""
    new, total = {"decode": ([1, 1], [600, 30]), "mixed": ([3, 1], [530, 9])}[case]
    k, v = (randn(4, page_size, 2, dim, dtype=dtype) for _ in "kv")
    q, starts, tables = randn(sum(new), 4, dim, dtype=dtype), [0, new[0], sum(new)], [[2, 0], [3]]
    got = ops.attention_pages(
        q.npu(), k.npu(), v.npu(), ops.BlockTables(tables, total, page_size, "npu"), starts, 0.1
    )
    want = torch_attention.attention_pages(q, k, v, ops.BlockTables(tables, total, page_size), starts, 0.1)
    close(got, want, dtype)


def _expected_calls(dtype, page_size, dim, new):
    """How many fused calls the documents' layouts need for a batch."""
    if dtype == torch.float32:
        return 0
    if dim == 128 and dtype == torch.bfloat16:
        return 1  # over pages, or over what was collected from them
    if all(n == 1 for n in new) and dim % 16 == 0:
        return 1
    return len(new)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("n", "m", "dim"), [(4, 4, 64), (1, 9, 64), (3, 70, 64), (3, 70, 100), (1, 9, 24)])
def test_log_sum_exp(dtype, causal, n, m, dim):
    q, k, v = (randn(size, heads, dim, dtype=dtype) for size, heads in ((n, 4), (m, 2), (m, 2)))
    out, lse = ops.attention_lse(q.npu(), k.npu(), v.npu(), 0.125, causal=causal)
    want, want_lse = torch_attention.attention_lse(q, k, v, 0.125, causal=causal)
    close(out, want, dtype)
    close(lse, want_lse, torch.float32)


@pytest.mark.parametrize(
    ("dtype", "heads", "words"),
    [
        (torch.float16, (4, 2, 528), r"heads of 528 elements; torch\.float16 allows 512 at most"),
        (torch.float32, (4, 2, 770), r"heads of 770 elements; torch\.float32 allows 768 at most"),
        (torch.bfloat16, (4, 2, 63), "heads of 63 elements; rotation needs an even number"),
        (torch.float32, (257, 257, 64), "257 query heads; 256 are allowed at most"),
        (torch.float16, (71, 1, 64), "71 query heads on 1 KV heads; 64 may share one at most"),
    ],
)
def test_heads_that_no_operator_takes_are_refused_by_name(dtype, heads, words):
    weight = torch.zeros(1, dtype=dtype)
    ops.check_heads(weight, *heads)
    with pytest.raises(ValueError, match="the NPU's attention operators do not take this model's " + words):
        ops.check_heads(weight.npu(), *heads)
    for fine in ((8, 8, 512), (64, 1, 100), (256, 256, 64)):
        ops.check_heads(weight.npu(), *fine)


def without(monkeypatch, name):
    """torch_npu as an older one, without an operator."""
    monkeypatch.delattr(torch_npu, name)
    assert not hasattr(torch_npu, name)


def test_older_attention(monkeypatch):
    without(monkeypatch, "npu_fused_infer_attention_score_v2")
    with emulated_npu.trace() as names:
        test_packed_attention("chunks with history", torch.bfloat16, 4, 2, 128)
        test_rows("mixed", torch.float16, 9, 3, 64)
        test_pages("decode", torch.bfloat16, 128, 9, 3, 64)
        test_log_sum_exp(torch.float16, True, 3, 70, 64)
    assert ran(names, FIA)


def test_older_page_writes(monkeypatch):
    without(monkeypatch, "npu_scatter_pa_kv_cache")
    test_pages("mixed", torch.bfloat16, 128, 4, 2, 128)


def test_the_mask_is_made_once():
    device = torch.device("npu", 0)
    assert npu_attention._mask(device).data_ptr() == npu_attention._mask(device).data_ptr()
