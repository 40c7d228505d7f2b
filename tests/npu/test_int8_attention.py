"""FIA over keys and values in 8 bits: modes 0, 3 and 5, against attention over the numbers behind the codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.npu.support import assert_rounded, attention, bottom_right, causal_mask, error_of, npu, to_npu

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
HEADS, KV, DIM, SIZE, BLOCKS = 4, 2, 64, 32, 5
LENGTHS, TABLE = [40, 17], [[3, 1], [4, 0]]
Shape = tuple[int, ...]


def codes(*shape: int) -> Tensor:
    """int8 numbers."""
    return torch.randint(-127, 128, shape, dtype=torch.int8)


def scales(*shape: int, dtype: torch.dtype = FP32) -> Tensor:
    """Steps of a size that gives ordinary keys."""
    return ((torch.rand(*shape) + 0.5) / 60).to(dtype)


def check(q: Tensor, out: Tensor, keys: list[Tensor], values: list[Tensor]) -> None:
    """Each sequence's query `[N, D]` attends over its keys `[KvN, length, D]`."""
    for row, got, k, v in zip(q, out, keys, values, strict=True):
        k, v = (t.transpose(0, 1) for t in (k, v))
        want, _ = attention(row[None], k, v, torch.ones(1, len(k), dtype=torch.bool))
        assert_rounded(got.reshape(1, HEADS, DIM), want)


def v1(**changes: Any) -> Any:
    """Version 1 of the operator, with the names of version 2."""
    names = {
        "num_query_heads": "num_heads", "softmax_scale": "scale", "actual_seq_kvlen": "actual_seq_lengths_kv",
        "actual_seq_qlen": "actual_seq_lengths", "dequant_scale_key": "key_antiquant_scale",
        "dequant_scale_value": "value_antiquant_scale", "key_quant_mode": "key_antiquant_mode",
        "value_quant_mode": "value_antiquant_mode",
    }  # fmt: skip
    q, k, v = (changes.pop(name) for name in "qkv")
    options = {names.get(name, name): value for name, value in changes.items()}
    return npu.npu_fused_infer_attention_score(q, k, v, **options)[0]


def v2(**changes: Any) -> Any:
    """Version 2 of the operator."""
    q, k, v = (changes.pop(name) for name in "qkv")
    return npu.npu_fused_infer_attention_score_v2(q, k, v, **changes)[0]


def call(arguments: dict[str, Any], version: Callable[..., Any] = v2) -> Tensor:
    """The operator on the device, its result on the host."""
    heads = dict(num_query_heads=HEADS, num_key_value_heads=KV, softmax_scale=DIM**-0.5)
    result: Tensor = version(**to_npu(heads | arguments)).cpu()
    return result


def pages(mode: int = 5, dtype: torch.dtype = BF16, **changes: Any) -> dict[str, Any]:
    """One query for each of two sequences, over pages of 32 tokens."""
    shape, kind = {0: ((1, KV, DIM), dtype), 3: ((2, KV, 2 * SIZE), FP32), 5: ((BLOCKS, KV, SIZE), FP32)}[
        mode
    ]
    return {
        "q": torch.randn(2, 1, HEADS * DIM).to(dtype), "k": codes(BLOCKS, SIZE, KV * DIM), "v": codes(BLOCKS, SIZE, KV * DIM),
        "block_table": torch.tensor(TABLE, dtype=torch.int32), "block_size": SIZE, "actual_seq_kvlen": LENGTHS,
        "dequant_scale_key": scales(*shape, dtype=kind), "dequant_scale_value": scales(*shape, dtype=kind),
        "key_quant_mode": mode, "value_quant_mode": mode, "input_layout": "BSH",
    } | changes  # fmt: skip


def rows(mode: int = 3, dtype: torch.dtype = BF16, **changes: Any) -> dict[str, Any]:
    """One query for each of two sequences, over rows of 48 tokens."""
    shape, kind = {0: ((1, KV, 1, DIM), dtype), 3: ((2, KV, 48), FP32)}[mode]
    return {
        "q": torch.randn(2, HEADS, 1, DIM).to(dtype), "k": codes(2, KV, 48, DIM), "v": codes(2, KV, 48, DIM),
        "actual_seq_kvlen": LENGTHS, "dequant_scale_key": scales(*shape, dtype=kind),
        "dequant_scale_value": scales(*shape, dtype=kind), "key_quant_mode": mode, "value_quant_mode": mode,
        "input_layout": "BNSD",
    } | changes  # fmt: skip


def queries(**changes: Any) -> dict[str, Any]:
    """Three queries in each of two sequences, one scale for each channel."""
    mask = {
        "atten_mask": causal_mask,
        "sparse_mode": 3,
        "actual_seq_qlen": [3, 3],
        "q": torch.randn(2, HEADS, 3, DIM).to(BF16),
    }
    return rows(0) | mask | changes


@pytest.mark.parametrize("version", [v1, v2])
@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize("mode", [0, 3, 5])
def test_one_query_over_pages(mode: int, dtype: torch.dtype, version: Callable[..., Any]):
    given = pages(mode, dtype)
    numbers: dict[str, list[Tensor]] = {"k": [], "v": []}
    for name, scale in (("k", given["dequant_scale_key"]), ("v", given["dequant_scale_value"])):
        for i, length in enumerate(LENGTHS):
            tokens = torch.stack([
                given[name][TABLE[i][t // SIZE], t % SIZE].view(KV, DIM).double()
                * (scale[0].double() if mode == 0 else
                   (scale[i, :, t] if mode == 3 else scale[TABLE[i][t // SIZE], :, t % SIZE]).double()[:, None])
                for t in range(length)
            ])  # fmt: skip
            numbers[name].append(tokens.transpose(0, 1))
    check(given["q"].view(2, HEADS, DIM), call(given, version), numbers["k"], numbers["v"])


@pytest.mark.parametrize("mode", [0, 3])
def test_one_query_over_rows(mode: int):
    given = rows(mode)
    numbers = [
        [
            given[name][i, :, :n].double()
            * (scale[0].double() if mode == 0 else scale[i, :, :n].double().unsqueeze(-1))
            for i, n in enumerate(LENGTHS)
        ]
        for name, scale in (("k", given["dequant_scale_key"]), ("v", given["dequant_scale_value"]))
    ]
    check(given["q"].view(2, HEADS, DIM), call(given), *numbers)


def test_a_few_queries_with_one_scale_for_each_channel():
    given = queries(atten_mask=causal_mask())
    out = call(given)
    for i, length in enumerate(LENGTHS):
        k, v = (
            (given[name][i, :, :length].double() * given[scale][0].double()).transpose(0, 1)
            for name, scale in (("k", "dequant_scale_key"), ("v", "dequant_scale_value"))
        )
        want, _ = attention(given["q"][i].transpose(0, 1), k, v, bottom_right(3, length))
        assert_rounded(out[i].transpose(0, 1), want)


def both(shape: Shape, dtype: torch.dtype = FP32) -> dict[str, Any]:
    """Scales of another shape or type for keys and values."""
    return {
        "dequant_scale_key": scales(*shape, dtype=dtype),
        "dequant_scale_value": scales(*shape, dtype=dtype),
    }


def modes(number: int, value: int | None = None) -> dict[str, int]:
    """Another quantisation mode."""
    return {"key_quant_mode": number, "value_quant_mode": number if value is None else value}


def tnd() -> dict[str, Any]:
    """Packed queries."""
    return {
        "q": torch.randn(2, HEADS, 128).to(BF16), "k": codes(BLOCKS, 128, KV * 128), "v": codes(BLOCKS, 128, KV * 128),
        "block_size": 128, "input_layout": "TND", "actual_seq_qlen": [1, 2], **both((BLOCKS, KV, 128)),
    }  # fmt: skip


ILLEGAL: list[tuple[str, Callable[..., dict[str, Any]], dict[str, Any], str]] = [
    ("key scale alone", pages, dict(dequant_scale_value=None), "come together"),
    ("no scales", pages, dict(dequant_scale_key=None, dequant_scale_value=None), "share float16 or bfloat16"),
    ("scales for bf16 keys", pages, dict(k=torch.randn(BLOCKS, SIZE, KV * DIM).to(BF16)), "int8 keys and values"),
    ("two modes", pages, modes(5, 3), "one quantisation mode"),
    ("mode 6", pages, modes(6), "modes are 0 to 5"),
    ("mode 5 without pages", rows, modes(5) | both((BLOCKS, KV, SIZE)), "needs a block_table"),
    ("mode 5, scales of 16 bits", pages, both((BLOCKS, KV, SIZE), BF16), "the key's scale is torch.float32"),
    ("mode 5, tokens before heads", pages, both((BLOCKS, SIZE, KV)), "the key's scale is"),
    ("mode 3, scales of 16 bits", rows, both((2, KV, 48), BF16), "the key's scale is torch.float32"),
    ("mode 3, tokens before heads", rows, both((2, 48, KV)), "the key's scale is"),
    ("mode 0, scales in fp32", rows, modes(0) | both((1, KV, DIM)), "the key's scale is torch.bfloat16"),
    ("mode 0, another shape", rows, modes(0) | both((1, DIM, KV), BF16), "the key's scale is"),
    ("the value's scale", rows, dict(dequant_scale_value=scales(2, KV, 47)), "the value's scale is"),
    ("blocks of 16", pages, dict(k=codes(BLOCKS, 16, KV * DIM), v=codes(BLOCKS, 16, KV * DIM), block_size=16, actual_seq_kvlen=[20, 9], **both((BLOCKS, KV, 16))), "multiple of 32"),
    ("heads of 48", rows, dict(q=torch.randn(2, HEADS, 1, 48).to(BF16), k=codes(2, KV, 48, 48), v=codes(2, KV, 48, 48)), "multiple of 32"),
    ("packed", pages, tnd(), "TND takes no int8"),
    ("fp32 query", rows, dict(q=torch.randn(2, HEADS, 1, DIM)), "float16 or bfloat16"),
    ("several queries, mode 3", queries, modes(3) | both((2, KV, 48)), "takes the modes 0 and 1"),
    ("several queries, fp16", queries, dict(q=torch.randn(2, HEADS, 3, DIM).half()), "needs a bfloat16 query"),
    ("17 queries", queries, dict(q=torch.randn(2, HEADS, 17, DIM).to(BF16), actual_seq_qlen=[17, 17]), "at most 16"),
    ("several queries in pages", pages, modes(0) | both((1, KV, DIM), BF16) | dict(
        q=torch.randn(2, 3, HEADS * DIM).to(BF16), k=codes(BLOCKS, 128, KV * DIM), v=codes(BLOCKS, 128, KV * DIM), block_size=128), "takes no pages"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "changes", "message"), [c[1:] for c in ILLEGAL], ids=[c[0] for c in ILLEGAL]
)
def test_refuses(base: Callable[..., dict[str, Any]], changes: dict[str, Any], message: str):
    mask = {"atten_mask": causal_mask()} if base is queries else {}
    call(base(**mask))
    with pytest.raises(RuntimeError, match=message):
        call(base(**mask, **changes))


@pytest.mark.parametrize("mode", [1, 2, 4])
def test_the_other_modes_say_that_they_are_not_emulated(mode: int):
    text = error_of(lambda: call(rows(**modes(mode), **both((1, 2, 48)))))
    assert f"quantisation mode {mode} is not emulated" in text
    text = error_of(
        lambda: call(
            pages(dequant_offset_key=scales(BLOCKS, KV, SIZE), dequant_offset_value=scales(BLOCKS, KV, SIZE))
        )
    )
    assert "key_antiquant_offset" in text
