"""FlashAttention against attention in fp64 by its definition: as exact as torch's own, whatever the shapes and tiles."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import FlashAttention
from helpers.attention import Partial, merge
from helpers.machine import peak_memory
from helpers.ops import attention_lse, materialised_attention
from tests.attention.exact import INF, close_to_lse, exact, mask_of, problems, randn, tensors, torchs, visible

CPU = torch.device("cpu")
NAN = float("nan")


@settings(deadline=None, max_examples=200)
@given(problems())
def test_error_is_within_twice_that_of_torch(problem):
    attention, q, k, v = problem
    mask = mask_of(attention, q, k)
    out, lse = attention.forward(q, k, v, return_lse=True)
    want, want_lse = exact(q, k, v, mask)
    assert out.dtype == q.dtype
    assert not out.isnan().any()
    close_to_lse(lse, want_lse)
    seen = mask.any(dim=1)
    assert (out[:, :, ~seen] == 0).all()
    if seen.any():
        rows = (t[:, :, seen].double() for t in (out, torchs(q, k, v, mask), want))
        ours, theirs, reference = rows
        bar = 2 * (theirs - reference).abs().max() + 1e-6
        assert (ours - reference).abs().max() <= bar


@settings(deadline=None, max_examples=60)
@given(problems((torch.float32,)), st.data())
def test_tiles_splits_and_steps_change_nothing(problem, data):
    attention, q, k, v = problem
    out, lse = attention(q, k, v, return_lse=True)
    options = dict(causal=attention.causal, window=attention.window)
    whole = FlashAttention(64, 64, **options)(q, k, v, return_lse=True)
    torch.testing.assert_close(tuple(whole), (out, lse), atol=3e-6, rtol=3e-6)
    blocks = {state.tile.q_start: state for state in attention.steps(q, k, v)}
    if blocks:
        stepped = torch.cat([state.out for state in blocks.values()], dim=2)
        torch.testing.assert_close(stepped, out, atol=3e-6, rtol=3e-6)
        sums = torch.cat(
            [state.maximum.double() + state.total.double().log() for state in blocks.values()], dim=2
        )
        torch.testing.assert_close(sums, lse.double(), atol=1e-5, rtol=1e-5)


# Sequences of their own lengths


@st.composite
def ragged(draw):
    """A batch, with lengths of its sequences."""
    attention, q, k, v = draw(problems((torch.float32,)))
    q_lens = draw(st.lists(st.integers(0, q.shape[2]), min_size=len(q), max_size=len(q)))
    kv_lens = draw(st.lists(st.integers(0, k.shape[2]), min_size=len(q), max_size=len(q)))
    return attention, q, k, v, q_lens, kv_lens


@settings(deadline=None, max_examples=80)
@given(ragged())
def test_a_sequence_of_a_batch_is_as_if_alone_whatever_stands_behind_it(problem):
    attention, q, k, v, q_lens, kv_lens = problem
    for i, (n, m) in enumerate(zip(q_lens, kv_lens, strict=True)):
        q[i, :, n:], k[i, :, m:], v[i, :, m:] = NAN, INF, NAN
    out, lse = attention(q, k, v, q_lens=q_lens, kv_lens=kv_lens, return_lse=True)
    for i, (n, m) in enumerate(zip(q_lens, kv_lens, strict=True)):
        alone, alone_lse = attention(
            q[i : i + 1, :, :n], k[i : i + 1, :, :m], v[i : i + 1, :, :m], return_lse=True
        )
        assert torch.equal(out[i, :, :n], alone[0])
        assert torch.equal(lse[i, :, :n], alone_lse[0])
        assert (out[i, :, n:] == 0).all()
        assert (lse[i, :, n:] == -INF).all()


def test_one_kind_of_lengths_leaves_the_other_whole():
    q, k, v = tensors(2, 2, 1, 5, 7, 8, 8)
    out = FlashAttention(2, 3)(q, k, v, kv_lens=[7, 4])
    torch.testing.assert_close(out[1:], FlashAttention()(q[1:], k[1:, :, :4], v[1:, :, :4]))
    torch.testing.assert_close(out[:1], FlashAttention()(q[:1], k[:1], v[:1]))
    assert (FlashAttention()(q, k, v, q_lens=[0, 5])[0] == 0).all()


@settings(deadline=None, max_examples=80)
@given(problems((torch.float32,)), st.sampled_from([NAN, INF, -INF]))
def test_a_key_that_no_query_sees_is_never_read(problem, poison):
    attention, q, k, v = problem
    unseen = ~mask_of(attention, q, k).any(dim=0)
    clean = attention(q, k, v, return_lse=True)
    steps = [state.out for state in attention.steps(q, k, v)]
    k[:, :, unseen], v[:, :, unseen] = poison, poison
    poisoned = attention(q, k, v, return_lse=True)
    assert torch.equal(poisoned.out, clean.out)
    assert torch.equal(poisoned.lse, clean.lse)
    assert all(map(torch.equal, steps, (state.out for state in attention.steps(q, k, v))))


# By hand


def test_the_articles_signature():
    q, k, v = (randn(2, 100, 64, seed=seed) for seed in range(3))
    out = FlashAttention(block_size=64).forward(q, k, v)
    want, want_lse = exact(*(t.unsqueeze(1) for t in (q, k, v)), visible(100, 100))
    torch.testing.assert_close(out.double(), want[:, 0], atol=2e-6, rtol=2e-6)
    lse = FlashAttention(block_size=64).forward(q, k, v, return_lse=True).lse
    assert lse.shape == (2, 100)
    close_to_lse(lse, want_lse[:, 0])


def test_more_queries_than_keys_leaves_the_first_without_any():
    q, k, v = tensors(1, 2, 2, 9, 4, 8, 8)
    out, lse = FlashAttention(3, 2)(q, k, v, return_lse=True)
    assert (out[:, :, :5] == 0).all()
    assert (lse[:, :, :5] == -INF).all()
    torch.testing.assert_close(out[:, :, 5:], FlashAttention()(q[:, :, 5:], k, v))


def test_no_keys_and_no_queries():
    q, k, v = tensors(2, 2, 1, 3, 0, 4, 6)
    out, lse = FlashAttention()(q, k, v, return_lse=True)
    assert out.shape == (2, 2, 3, 6)
    assert (out == 0).all()
    assert (lse == -INF).all()
    assert FlashAttention()(q[:, :, :0], *tensors(2, 2, 1, 3, 5, 4, 6)[1:]).shape == (2, 2, 0, 6)
    assert FlashAttention()(q[:0], k[:0], v[:0]).shape == (0, 2, 3, 6)


def test_one_query_of_a_decode_step_sees_all():
    q, k, v = tensors(3, 6, 2, 1, 50, 16, 16)
    for splits in (1, 4):
        out = FlashAttention(8, num_splits=splits)(q, k, v)
        torch.testing.assert_close(out, torchs(q, k, v, None))


def test_scale_and_fp64():
    q, k, v = (t.double() for t in tensors(1, 2, 2, 12, 12, 8, 8))
    out, lse = FlashAttention(5, 4, scale=0.7)(q, k, v, return_lse=True)
    want = exact(q, k, v, visible(12, 12), scale=0.7)
    assert out.dtype == lse.dtype == torch.float64
    torch.testing.assert_close((out, lse), want, atol=1e-13, rtol=1e-13)
    plain = FlashAttention(5, 4)(q, k, v)
    torch.testing.assert_close(plain, exact(q, k, v, visible(12, 12))[0], atol=1e-13, rtol=1e-13)


def test_parts_of_the_keys_merge():
    q, k, v = tensors(1, 4, 2, 5, 33, 16, 16)
    whole = FlashAttention(causal=False)(q, k, v, return_lse=True)
    cuts = [0, 10, 11, 33]
    parts = [
        FlashAttention(4, causal=False)(q, k[:, :, a:b], v[:, :, a:b], return_lse=True)
        for a, b in pairwise(cuts)
    ]
    torch.testing.assert_close(tuple(merge(parts)), tuple(whole))
    rows = [t[0].transpose(0, 1) for t in (q, k, v)]
    out, lse = attention_lse(*rows, 0.25, causal=False)
    torch.testing.assert_close(merge([Partial(out.transpose(0, 1)[None], lse.T[None])]).out, whole.out)


def test_steps_are_copies_and_skipped_tiles_change_nothing():
    q, k, v = tensors(1, 2, 1, 8, 8, 4, 4)
    states = list(FlashAttention(2, 4).steps(q, k, v))
    assert [state.tile.kind for state in states] == ["masked", "masked", "skipped", "skipped", "full", "full", "masked", "masked"]  # fmt: skip
    assert torch.equal(states[1].out, states[3].out)
    assert torch.equal(states[1].total, states[2].total)
    assert (states[2].scores == -INF).all()
    assert states[0].scores.shape == (1, 2, 4, 2)
    first = next(FlashAttention(2, 4).steps(q, k, v))
    for name in ("scores", "maximum", "total", "out"):
        assert torch.equal(getattr(states[0], name), getattr(first, name)), f"{name} is not what is added to"
    scores = (q[0, 1, 4:] @ k[0, 0, 2:4].T) / 2
    torch.testing.assert_close(states[5].scores[0, 1], scores)
    torch.testing.assert_close(states[5].maximum[0, 1], ((q[0, 1, 4:] @ k[0, 0, :4].T) / 2).amax(dim=1))


# Memory


def exponent(peaks):
    """The slope of a line through the logarithms of length and bytes."""
    x, y = ([math.log(number) for number in numbers] for numbers in (peaks, peaks.values()))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )


def test_peak_memory_grows_with_the_length_and_not_with_its_square():
    ours, theirs = {}, {}
    for n in (512, 1024, 2048, 4096, 8192):
        q, k, v = (randn(n, 1, 8, seed=seed) for seed in range(3))
        with peak_memory(CPU) as peak:
            FlashAttention(512, 256)(*(t.transpose(0, 1)[None] for t in (q, k, v)))
        ours[n] = peak.nbytes
        with peak_memory(CPU) as peak:
            materialised_attention(q, k, v, [0, n], [0, n], 0.25)
        theirs[n] = peak.nbytes
    assert exponent(ours) < 1.1
    assert exponent(theirs) > 1.9
    assert ours[8192] < theirs[8192] / 100


# Options that make no sense are refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_size": 0}, "key_block is a whole number from 1"),
        ({"query_block": 1.5}, "query_block is a whole number from 1"),
        ({"window": 0}, "window is a whole number from 1, got 0"),
        ({"num_splits": True}, "num_splits is a whole number from 1, got True"),
        ({"scale": NAN}, "scale is a finite number, got nan"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        FlashAttention(**options)
