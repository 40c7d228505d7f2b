"""The kernel against plain torch, for every shape of a batch, and against itself, bit for bit."""

from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.native import Sequences, attend, kernels, serves
from helpers.ops import BlockTables, torch_attention

pytestmark = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)
NAN = float("nan")
TOLERANCE = {torch.float32: dict(atol=2e-6, rtol=1e-5), torch.bfloat16: dict(atol=2e-2, rtol=2e-2)}


class Pass(NamedTuple):
    """A pass over pages: what the operator takes."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    tables: list[list[int]]
    kv_lens: list[int]
    q_start: list[int]

    @property
    def scale(self):
        return self.q.shape[-1] ** -0.5


@st.composite
def passes(draw, dtypes=(torch.float32, torch.bfloat16)):
    """Draw sequences of any lengths in scattered pages, some of which begin with the same pages."""
    page_size = draw(st.sampled_from([1, 2, 3, 7, 16, 48, 256]))
    kv_heads, group, dim = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 5)),
        draw(st.sampled_from([16, 48, 64, 80, 128])),
    )
    lens = draw(st.lists(st.integers(1, 150), min_size=1, max_size=11))
    new = [draw(st.one_of(st.just(1), st.integers(1, n))) for n in lens]
    shared = draw(st.integers(0, 120)) // page_size
    seed = draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    needed = [-(-n // page_size) for n in lens]
    ids = torch.randperm(sum(needed) + shared + 2, generator=generator).tolist()
    common, ids = ids[:shared], ids[shared:]
    tables = []
    for count, n, fresh in zip(needed, lens, new, strict=True):
        alike = min(shared, (n - fresh) // page_size)  # a page with new tokens is the sequence's own
        tables.append(common[:alike] + [ids.pop() for _ in range(count - alike)])
    dtype = draw(st.sampled_from(dtypes))
    pool = (sum(needed) + shared + 2, page_size, kv_heads, dim)
    k, v = (torch.full(pool, NAN) for _ in "kv")
    slots = BlockTables(tables, lens, page_size).slots
    for cache in (k, v):
        cache.view(-1, kv_heads, dim)[slots] = torch.randn(len(slots), kv_heads, dim, generator=generator)
    # queries are a view of a wider row, as those that the model splits off
    wide = torch.randn(sum(new), (group + 1) * kv_heads, dim, generator=generator).to(dtype)
    q_start = [sum(new[:i]) for i in range(len(new) + 1)]
    return Pass(wide[:, : group * kv_heads], k.to(dtype), v.to(dtype), tables, lens, q_start)


def native(p):
    padded = BlockTables(p.tables, p.kv_lens, p.k.shape[1]).padded
    assert serves(p.q, p.k, p.v)
    return attend(p.q, p.k, p.v, Sequences.of(padded, p.q_start, p.kv_lens), p.scale)


def plain(p):
    tables = BlockTables(p.tables, p.kv_lens, p.k.shape[1])
    return torch_attention.attention_pages(p.q, p.k, p.v, tables, p.q_start, p.scale)


@settings(max_examples=150, deadline=None)
@given(passes())
def test_it_gives_what_plain_torch_gives(p):
    got = native(p)
    assert got.isfinite().all(), "a slot that holds no token was read"
    torch.testing.assert_close(got, plain(p), **TOLERANCE[p.q.dtype])


@settings(max_examples=60, deadline=None)
@given(passes())
def test_a_sequence_has_the_same_bits_alone_and_beside_others(p):
    together = native(p)
    for i, (a, b) in enumerate(pairwise(p.q_start)):
        alone = Pass(p.q[a:b], p.k, p.v, [p.tables[i]], [p.kv_lens[i]], [0, b - a])
        assert torch.equal(native(alone), together[a:b])


@settings(max_examples=60, deadline=None)
@given(passes())
def test_a_token_has_the_same_bits_in_a_chunk_and_after_it(p):
    together = native(p)
    for i, (a, b) in enumerate(pairwise(p.q_start)):
        seen = p.kv_lens[i] - (b - a) + 1
        first = Pass(p.q[a : a + 1], p.k, p.v, [p.tables[i]], [seen], [0, 1])
        assert torch.equal(native(first), together[a : a + 1])


@settings(max_examples=40, deadline=None)
@given(passes(), st.integers(1, 200))
def test_the_size_of_the_pages_changes_no_bit(p, size):
    """The same keys and values in pages of another size, in order."""
    tables = BlockTables(p.tables, p.kv_lens, p.k.shape[1])
    count = [-(-n // size) for n in p.kv_lens]
    others, at = [], 0
    for n in count:
        others.append(list(range(at, at + n)))
        at += n
    moved = BlockTables(others, p.kv_lens, size)
    caches = []
    for cache in (p.k, p.v):
        new = torch.full((at, size, *cache.shape[2:]), NAN, dtype=cache.dtype)
        new.flatten(0, 1)[moved.slots] = cache.flatten(0, 1)[tables.slots]
        caches.append(new)
    assert torch.equal(native(p._replace(k=caches[0], v=caches[1], tables=others)), native(p))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rows_are_pages_with_the_heads_first(dtype):
    generator = torch.Generator().manual_seed(1)
    k, v = (torch.randn(4, 2, 70, 32, generator=generator).to(dtype) for _ in "kv")
    q = torch.randn(5, 6, 32, generator=generator).to(dtype)
    rows, q_start, lens = [3, 0, 2], [0, 1, 4, 5], [70, 9, 33]
    sequences = Sequences.of(torch.tensor(rows, dtype=torch.int32).unsqueeze(1), q_start, lens)
    got = attend(q, k, v, sequences, 0.2, heads_first=True)
    want = torch_attention.attention_rows(q, k, v, rows, q_start, lens, 0.2)
    torch.testing.assert_close(got, want, **TOLERANCE[dtype])


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_a_nan_that_counts_stays_a_nan(where):
    """And a NaN of one sequence is no other's."""
    q, k, v = torch.randn(2, 2, 16), torch.randn(4, 40, 1, 16), torch.randn(4, 40, 1, 16)
    dict(q=q[0], k=k[0, 5], v=v[0, 5])[where][0, 3] = NAN
    got = native(Pass(q, k, v, [[0, 1], [2, 3]], [60, 60], [0, 1, 2]))
    assert got[0].isnan().any()
    assert got[1].isfinite().all()


def test_large_scores_do_not_overflow():
    q, k, v = (1000 * torch.randn(size) for size in ((1, 2, 16), (3, 16, 1, 16), (3, 16, 1, 16)))
    p = Pass(q, k, v, [[2, 0, 1]], [45], [0, 1])
    torch.testing.assert_close(native(p), plain(p))


def test_threads_change_no_bit():
    generator = torch.Generator().manual_seed(2)
    k, v = (torch.randn(40, 16, 3, 64, generator=generator) for _ in "kv")
    p = Pass(
        torch.randn(9, 9, 64, generator=generator),
        k,
        v,
        [[i, 20 + i] for i in range(9)],
        [30] * 9,
        list(range(10)),
    )
    before, one = torch.get_num_threads(), None
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            one = native(p) if one is None else one
            assert torch.equal(native(p), one)
    finally:
        torch.set_num_threads(before)


def test_what_the_kernel_cannot_compute_is_left_to_plain_torch():
    q, k = torch.randn(1, 2, 16), torch.randn(3, 4, 1, 16)
    assert serves(q, k, k)
    assert not serves(q.half(), k.half(), k.half())
    assert not serves(q.to("meta"), k.to("meta"), k.to("meta"))
    assert not serves(q, k.bfloat16(), k.bfloat16())
    assert not serves(q[..., :15], k[..., :15], k[..., :15])
    assert not serves(q.transpose(0, 1), k, k)
    assert not serves(q, k.transpose(1, 3).contiguous().transpose(1, 3), k)
    assert not serves(q.clone().requires_grad_(), k, k)
