"""Tensors, lengths and sinks that do not fit together are refused before any work."""

import pytest
import torch

from helpers import FlashAttention

Q = torch.zeros(2, 4, 5, 8)


KV = torch.zeros(2, 2, 7, 8)


@pytest.mark.parametrize(
    ("q", "k", "v", "options", "words"),
    [
        (None, KV, KV, {}, "Q is a tensor, got NoneType"),
        (Q.int(), KV, KV, {}, "Q is float16, bfloat16, float32 or float64, got torch.int32"),
        (Q[0, 0], KV, KV, {}, "got Q (5, 8) with Q (5, 8)"),
        (Q, KV[:, 0], KV, {}, "got K (2, 7, 8) with Q (2, 4, 5, 8)"),
        (Q, KV.half(), KV, {}, "K is torch.float16 on cpu, Q torch.float32 on cpu"),
        (Q, KV, KV.to("meta"), {}, "V is torch.float32 on meta"),
        (Q, KV[:1], KV[:1], {}, "one batch size; got Q (2, 4, 5, 8), K (1, 2, 7, 8)"),
        (Q, KV, KV[:, :, :6], {}, "as many heads and as many tokens"),
        (Q, KV, KV[:, :1], {}, "as many heads and as many tokens"),
        (Q, KV[..., :4], KV, {}, "Q and K have one head size"),
        (Q, KV, KV[..., :0], {}, "a head has at least one element"),
        (Q[:, :3], KV, KV, {}, "Q's heads are a multiple of K's"),
        (Q, KV, KV, {"sinks": torch.zeros(2)}, "sinks are floats of shape (4,)"),
        (Q, KV, KV, {"sinks": torch.zeros(4).int()}, "got (4,) torch.int32"),
        (Q, KV, KV, {"sinks": [0.0] * 4}, "got list"),
        (Q, KV, KV, {"sinks": torch.zeros(4, device="meta")}, "sinks lie on Q's device, cpu; got meta"),
        (Q, KV, KV, {"q_lens": [5]}, "q_lens has one length for each of 2 sequences, got 1"),
        (Q, KV, KV, {"q_lens": [5, 6]}, "q_lens are whole numbers from 0 to 5, got 6"),
        (Q, KV, KV, {"kv_lens": [-1, 2]}, "kv_lens are whole numbers from 0 to 7, got -1"),
        (Q, KV, KV, {"kv_lens": [1.0, 2]}, "kv_lens are whole numbers from 0 to 7, got 1.0"),
    ],
)
def test_tensors_that_do_not_fit(q, k, v, options, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the words are compared below)
        FlashAttention().forward(q, k, v, **options)
    assert words in str(error.value)
    if not options:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            FlashAttention().steps(q, k, v)
        assert words in str(error.value)
