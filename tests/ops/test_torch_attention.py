"""Attention packed, in rows and in pages against the formula in fp64, and the writing of keys and values."""

import pytest
import torch

from helpers import ops
from helpers.ops import BlockTables

H, KV, D, SCALE = 6, 2, 16, 0.3
CASES = {
    "prompts": ([7, 1, 30], [7, 1, 30]),
    "equal prompts": ([5, 5], [5, 5]),
    "chunks": ([3, 5, 2], [9, 5, 40]),
    "equal chunks": ([3, 3], [9, 9]),
    "decode": ([1, 1, 1], [1, 17, 64]),
    "equal decode": ([1, 1], [9, 9]),
}


def ends(lengths):
    return [sum(lengths[:i]) for i in range(len(lengths) + 1)]


def problem(new, total, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((sum(new), H, D), (sum(total), KV, D), (sum(total), KV, D))
    return [torch.randn(*size, generator=generator) for size in sizes]


def formula(q, k, v, causal=True):
    """Attention of one sequence in fp64, query by query and head by head, and the scores' log-sum-exps."""
    q, k, v = q.double(), k.double(), v.double()
    out, sums = torch.empty_like(q), torch.empty(q.shape[:2], dtype=torch.float64)
    for i in range(len(q)):
        seen = len(k) - len(q) + i + 1 if causal else len(k)
        for head in range(H):
            scores = k[:seen, head * KV // H] @ q[i, head] * SCALE
            out[i, head] = scores.softmax(0) @ v[:seen, head * KV // H]
            sums[i, head] = scores.logsumexp(0)
    return out, sums


def expected(q, k, v, new, total):
    parts = zip(q.split(new), k.split(total), v.split(total), strict=True)
    return torch.cat([formula(*part)[0] for part in parts])


def near(got, want):
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("operator", [ops.attention, ops.materialised_attention])
@pytest.mark.parametrize("case", CASES)
def test_packed_sequences(operator, case):
    new, total = CASES[case]
    q, k, v = problem(new, total)
    near(operator(q, k, v, ends(new), ends(total), SCALE), expected(q, k, v, new, total))


@pytest.mark.parametrize("rows", [[0, 1, 2], [3, 0, 2]], ids=["neighbours", "scattered"])
@pytest.mark.parametrize("case", CASES)
def test_rows_are_written_and_read(case, rows):
    new, total = CASES[case]
    q, k, v = problem(new, total)
    rows = rows[: len(total)]
    caches = [torch.full((4, KV, 70, D), float("nan")) for _ in "kv"]
    row_of = torch.tensor(rows).repeat_interleave(torch.tensor(total))
    ops.write_kv_rows(*caches, k, v, row_of, torch.cat([torch.arange(n) for n in total]))
    for cache, values in zip(caches, (k, v), strict=True):
        for row, part in zip(rows, values.split(total), strict=True):
            assert torch.equal(cache[row, :, : len(part)].transpose(0, 1), part)
        assert cache.isfinite().sum() == values.numel(), "nothing else is written"
    near(ops.attention_rows(q, *caches, rows, ends(new), total, SCALE), expected(q, k, v, new, total))


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_pages_are_written_and_read(case, scattered):
    new, total = CASES[case]
    q, k, v = problem(new, total)
    pages, tables = list(range(1, 40)), []
    for n in total:
        tables.append([pages.pop(-1 if scattered else 0) for _ in range(-(-n // 4))])
    caches = [torch.full((40, 4, KV, D), float("nan")) for _ in "kv"]
    block_tables = BlockTables(tables, total, 4)
    ops.write_kv_pages(*caches, k, v, block_tables.slots)
    for cache, values in zip(caches, (k, v), strict=True):
        assert torch.equal(cache.flatten(0, 1)[block_tables.slots], values)
        assert cache.isfinite().sum() == values.numel(), "nothing else is written"
    near(ops.attention_pages(q, *caches, block_tables, ends(new), SCALE), expected(q, k, v, new, total))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 9), (1, 4)])
def test_attention_comes_with_its_log_sum_exps(queries, keys, causal):
    q, k, v = problem([queries], [keys])
    out, sums = ops.attention_lse(q, k, v, SCALE, causal)
    want, want_sums = formula(q, k, v, causal)
    near(out, want)
    near(sums, want_sums)


def test_the_last_query_sees_the_last_key_and_no_query_a_later_one():
    q, k, v = problem([3], [8])
    for key in range(8):
        other = v.clone()
        other[key] += 1
        first, second = (ops.attention(q, k, values, [0, 3], [0, 8], SCALE) for values in (v, other))
        changed = (first != second).flatten(1).any(1).tolist()
        assert changed == [key <= 5, key <= 6, True]
