"""Every documented constraint: the call beside it passes, the call across it raises with a message about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.npu.support import causal_mask, error_of, npu, to_npu

BF16, FP16 = torch.bfloat16, torch.float16
Call = Callable[..., object]


def tensor(*shape: int, dtype: torch.dtype = BF16) -> Tensor:
    """Random numbers on the device."""
    return torch.randn(*shape).to(dtype).npu()


def strided(*shape: int, dtype: torch.dtype = BF16) -> Tensor:
    """The same, not contiguous."""
    return torch.randn(*shape[:-1], 2 * shape[-1]).to(dtype).npu()[..., : shape[-1]]


def table(*rows: list[int], dtype: torch.dtype = torch.int32) -> Tensor:
    """A block table on the device."""
    return torch.tensor(rows, dtype=dtype).npu()


def infer(**arguments: Any) -> object:
    """npu_fused_infer_attention_score_v2; q, k and v by keyword, callables are called."""
    arguments = {name: value() if callable(value) else value for name, value in arguments.items()}
    q, k, v = (arguments.pop(name) for name in "qkv")
    return npu.npu_fused_infer_attention_score_v2(q, k, v, **arguments)


def packed(**changes: Any) -> object:
    """Two packed prompts of 5 and 7 tokens."""
    legal = dict(
        q=lambda: tensor(12, 4, 128), k=lambda: tensor(12, 2, 128), v=lambda: tensor(12, 2, 128), atten_mask=causal_mask,
        actual_seq_qlen=[5, 12], actual_seq_kvlen=[5, 12], num_query_heads=4, num_key_value_heads=2,
        softmax_scale=0.1, input_layout="TND", sparse_mode=3,
    )  # fmt: skip
    return infer(**legal | changes)


def paged(**changes: Any) -> object:
    """Two packed chunks with history in pages of 128."""
    legal = dict(
        q=lambda: tensor(3, 4, 128), k=lambda: tensor(4, 128, 256), v=lambda: tensor(4, 128, 256), atten_mask=causal_mask,
        actual_seq_qlen=[1, 3], actual_seq_kvlen=[130, 256], block_table=lambda: table([3, 0], [1, 2]), block_size=128,
        num_query_heads=4, num_key_value_heads=2, softmax_scale=0.1, input_layout="TND", sparse_mode=3,
    )  # fmt: skip
    return infer(**legal | changes)


def batch(**changes: Any) -> object:
    """Two sequences of 6 queries and 9 keys, padded."""
    legal = dict(
        q=lambda: tensor(2, 6, 4, 64), k=lambda: tensor(2, 9, 2, 64), v=lambda: tensor(2, 9, 2, 64),
        num_query_heads=4, num_key_value_heads=2, softmax_scale=0.1, input_layout="BSND",
    )  # fmt: skip
    return infer(**legal | changes)


def paged_batch(**changes: Any) -> object:
    """Two prompts of 6 queries over pages of 128."""
    legal = dict(
        q=lambda: tensor(2, 6, 256), k=lambda: tensor(4, 128, 128), v=lambda: tensor(4, 128, 128),
        block_table=lambda: table([3, 0], [1, 2]), block_size=128, actual_seq_kvlen=[130, 256],
        num_query_heads=4, num_key_value_heads=2, softmax_scale=0.1, input_layout="BSH",
    )  # fmt: skip
    return infer(**legal | changes)


def decode(**changes: Any) -> object:
    """One query for each of two sequences, over pages of 16."""
    legal = dict(
        q=lambda: tensor(2, 1, 256), k=lambda: tensor(4, 16, 128), v=lambda: tensor(4, 16, 128),
        block_table=lambda: table([3, 0], [1, 2]), block_size=16, actual_seq_kvlen=[18, 32],
        num_query_heads=4, num_key_value_heads=2, softmax_scale=0.1, input_layout="BSH",
    )  # fmt: skip
    return infer(**legal | changes)


def same(shape: tuple[int, ...], dtype: torch.dtype = BF16) -> dict[str, Any]:
    """k and v of one shape."""
    return {name: lambda: tensor(*shape, dtype=dtype) for name in "kv"}


def all_of(q: tuple[int, ...], kv: tuple[int, ...], dtype: torch.dtype = BF16) -> dict[str, Any]:
    """q, k and v by shape."""
    return {"q": lambda: tensor(*q, dtype=dtype), **same(kv, dtype)}


MULTI_HEAD = dict(num_query_heads=4, num_key_value_heads=4)
PAGED_MULTI_HEAD = dict(q=lambda: tensor(3, 2, 128), num_query_heads=2, num_key_value_heads=2)


def random_mask(*shape: int, dtype: torch.dtype = torch.bool) -> Callable[[], Tensor]:
    """A mask that hides nothing."""
    return lambda: torch.zeros(*shape, dtype=dtype).npu()


LEGAL: list[tuple[str, Call, dict[str, Any]]] = [
    ("packed", packed, {}),
    ("packed, as many heads", packed, all_of((12, 4, 128), (12, 4, 128)) | MULTI_HEAD),
    ("packed, as many heads, D 64", packed, all_of((12, 4, 64), (12, 4, 64)) | MULTI_HEAD),
    ("packed, as many heads, fp16", packed, all_of((12, 4, 128), (12, 4, 128), FP16) | MULTI_HEAD | {"inner_precise": 1}),
    ("packed, D 192 and V 192", packed, all_of((12, 4, 192), (12, 4, 192)) | MULTI_HEAD),
    ("packed, D 192 and V 128", packed, {"q": lambda: tensor(12, 4, 192), "k": lambda: tensor(12, 2, 192)}),
    ("packed, int8 mask", packed, {"atten_mask": lambda: causal_mask().to(torch.int8)}),
    ("packed, mask of 4 dimensions", packed, {"atten_mask": lambda: causal_mask()[None, None]}),
    ("packed, no mask", packed, {"atten_mask": None, "sparse_mode": 0}),
    ("packed, an empty sequence", packed, {"actual_seq_qlen": [5, 5, 12], "actual_seq_kvlen": [5, 5, 12]}),
    ("packed, more keys", packed, same((14, 2, 128)) | {"actual_seq_kvlen": [6, 14]}),
    ("packed, 64 query heads per key head", packed, all_of((12, 64, 128), (12, 1, 128)) | {"num_query_heads": 64, "num_key_value_heads": 1}),
    ("paged", paged, {}),
    ("paged, blocks of 1024", paged, same((2, 1024, 256)) | {"block_size": 1024, "block_table": lambda: table([1], [0])}),
    ("paged, heads first", paged, same((4, 2, 128, 128))),
    ("paged, unused ids may be anything", paged, {"block_table": lambda: table([3, 0, 99], [1, 2, -7])}),
    ("paged, as many heads", paged, PAGED_MULTI_HEAD),
    ("batch", batch, {}),
    ("batch, 256 heads", batch, all_of((2, 6, 256, 16), (2, 9, 4, 16)) | {"num_query_heads": 256, "num_key_value_heads": 4}),
    ("batch, D 512", batch, all_of((2, 6, 4, 512), (2, 9, 2, 512))),
    ("batch, one length for all", batch, {"actual_seq_qlen": [4], "actual_seq_kvlen": [9]}),
    ("batch, surplus lengths", batch, {"actual_seq_kvlen": [9, 8, 77]}),
    ("batch, mask rounded up", batch, {"atten_mask": random_mask(2, 1, 16, 32)}),
    ("batch, mask of 2 dimensions", batch, {"atten_mask": random_mask(6, 9)}),
    ("batch, mode 1", batch, {"atten_mask": random_mask(1, 6, 9, dtype=torch.uint8), "sparse_mode": 1}),
    ("batch, blank row repaired", batch, {"atten_mask": lambda: torch.ones(6, 9, dtype=torch.bool).npu(), "inner_precise": 2}),
    ("batch, more queries than keys", batch, all_of((2, 9, 4, 64), (2, 6, 2, 64)) | {"atten_mask": causal_mask, "sparse_mode": 2}),
    ("paged batch", paged_batch, {}),
    ("paged batch, blocks of 512", paged_batch, same((2, 512, 128)) | {"block_size": 512, "block_table": lambda: table([1], [0])}),
    ("paged batch, wide mask", paged_batch, {"atten_mask": random_mask(2, 1, 6, 256)}),
    ("paged batch, heads first", paged_batch, {"q": lambda: tensor(2, 4, 6, 64), "input_layout": "BNSD"} | same((4, 2, 128, 64))),
    ("decode", decode, {}),
    ("decode, mask", decode, {"atten_mask": random_mask(2, 32)}),
    ("decode, blocks of 512", decode, same((2, 512, 128)) | {"block_size": 512, "block_table": lambda: table([1], [0])}),
    ("decode, KvN * D of 65520", decode, {"q": lambda: tensor(2, 1, 65520), "num_query_heads": 255, "num_key_value_heads": 255}
        | {name: lambda: torch.zeros(4, 16, 65280, dtype=BF16).npu() for name in "kv"} | {"q": lambda: tensor(2, 1, 65280)}),
]  # fmt: skip

ILLEGAL: list[tuple[str, Call, dict[str, Any], str]] = [
    # dtypes
    ("fp32", packed, all_of((12, 4, 128), (12, 2, 128), torch.float32), "float16 or bfloat16"),
    ("mixed dtypes", packed, {"k": lambda: tensor(12, 2, 128, dtype=FP16)}, "float16 or bfloat16"),
    ("packed fp16 with fewer heads", packed, all_of((12, 4, 128), (12, 2, 128), FP16), "float16 with as many key/value"),
    ("packed fp16 with inner_precise 2", packed, all_of((12, 4, 128), (12, 4, 128), FP16) | MULTI_HEAD | {"inner_precise": 2}, "inner_precise 0 and 1"),
    ("packed bf16 with inner_precise 1", packed, {"inner_precise": 1}, "inner_precise 0"),
    # contiguity
    ("strided q", packed, {"q": lambda: strided(12, 4, 128)}, "query is contiguous"),
    ("strided k", packed, {"k": lambda: strided(12, 2, 128)}, "key is contiguous"),
    ("strided v", packed, {"v": lambda: strided(12, 2, 128)}, "value is contiguous"),
    ("strided mask", batch, {"atten_mask": lambda: torch.zeros(6, 18, dtype=torch.bool).npu()[:, ::2]}, "atten_mask is contiguous"),
    ("transposed table", paged, {"block_table": lambda: table([3, 1], [0, 2]).t()}, "block_table is contiguous"),
    # heads and head sizes
    ("257 heads", batch, all_of((2, 6, 257, 16), (2, 9, 257, 16)) | {"num_query_heads": 257, "num_key_value_heads": 257}, "1 to 256 query heads"),
    ("heads no multiple", batch, all_of((2, 6, 4, 64), (2, 9, 3, 64)) | {"num_key_value_heads": 3}, "multiple of key/value heads"),
    ("65 query heads per key head", packed, all_of((12, 65, 128), (12, 1, 128)) | {"num_query_heads": 65, "num_key_value_heads": 1}, "at most 64 query heads"),
    ("num_heads not query's", batch, {"num_query_heads": 2}, "num_heads is query's"),
    ("num_key_value_heads not key's", batch, {"num_key_value_heads": 4}, "num_key_value_heads is key's"),
    ("num_key_value_heads 0 with fewer heads", packed, {"num_key_value_heads": 0}, "num_key_value_heads is key's"),
    ("D 8", batch, all_of((2, 6, 4, 8), (2, 9, 2, 8)), "multiple of 16, at most 512"),
    ("D 528", batch, all_of((2, 6, 4, 528), (2, 9, 2, 528)), "multiple of 16, at most 512"),
    ("packed D 64 with fewer heads", packed, all_of((12, 4, 64), (12, 2, 64)), "TND takes the head sizes"),
    ("packed D 256", packed, all_of((12, 4, 256), (12, 4, 256)) | MULTI_HEAD, "TND takes the head sizes"),
    ("packed V 192 with fewer heads", packed, all_of((12, 4, 192), (12, 2, 192)), "TND takes the head sizes"),
    ("paged V 192", paged, PAGED_MULTI_HEAD | {"q": lambda: tensor(3, 2, 192)} | same((4, 128, 384)), "TND takes the head sizes"),
    ("other head size in k", batch, same((2, 9, 2, 32)), "query and key have one head size"),
    ("key and value differ", batch, {"v": lambda: tensor(2, 8, 2, 64)}, "key and value have one shape"),
    ("packed key and value differ", packed, {"v": lambda: tensor(13, 2, 128)}, "key and value have one shape"),
    ("BSH not whole heads", paged_batch, {"q": lambda: tensor(2, 6, 258)}, "multiple of its 4 heads"),
    ("rank of key", batch, {"k": lambda: tensor(2, 9, 128)}, "key and value have 4 dimensions"),
    ("other batch", batch, same((3, 9, 2, 64)), "one batch size"),
    # lengths
    ("no lengths", packed, {"actual_seq_kvlen": None}, "TND needs lengths"),
    ("plain instead of cumulative", packed, {"actual_seq_qlen": [5, 7]}, "cumulative.*561002"),
    ("leading 0", packed, {"actual_seq_qlen": [0, 5, 12], "actual_seq_kvlen": [0, 5, 12]}, "without a leading 0"),
    ("padded tokens", packed, {"q": lambda: tensor(16, 4, 128)}, "end in 16 tokens"),
    ("padded keys", packed, same((16, 2, 128)), "kv lengths.*end in 16 tokens"),
    ("falling", packed, {"actual_seq_qlen": [9, 5, 12], "actual_seq_kvlen": [9, 10, 12]}, "cumulative"),
    ("unequal counts", packed, {"actual_seq_qlen": [12]}, "as many query as key lengths"),
    ("4097 sequences", packed, all_of((4097, 1, 128), (4097, 1, 128)) | dict(num_query_heads=1, num_key_value_heads=1, actual_seq_qlen=list(range(1, 4098)), actual_seq_kvlen=list(range(1, 4098))), "at most 4096 sequences"),
    ("more queries than keys in mode 3", packed, {"actual_seq_qlen": [7, 12]}, "sparse_mode 3 needs as many keys"),
    ("cumulative lengths of pages", paged, {"actual_seq_kvlen": [130, 386]}, "plain \\(not cumulative\\)"),
    ("query length beyond S", batch, {"actual_seq_qlen": [7, 6]}, "query lengths"),
    ("key length beyond S", batch, {"actual_seq_kvlen": [9, 10]}, "kv lengths"),
    ("negative length", batch, {"actual_seq_kvlen": [9, -1]}, "kv lengths"),
    ("three lengths missing one", batch, all_of((3, 6, 4, 64), (3, 9, 2, 64)) | {"actual_seq_kvlen": [9, 9]}, "one kv length, or one for each"),
    # modes and masks
    ("packed mode 2", packed, {"sparse_mode": 2}, "TND takes sparse_mode 0, 3 and 4"),
    ("packed mode 0 with a mask", packed, {"sparse_mode": 0}, "takes no mask"),
    ("packed mode 3 without a mask", packed, {"atten_mask": None}, "sparse_mode 3 needs atten_mask"),
    ("mode 1 without a mask", batch, {"sparse_mode": 1}, "sparse_mode 1 needs atten_mask"),
    ("mode 5", batch, {"sparse_mode": 5}, "sparse_mode is 0 to 4"),
    ("float mask", batch, {"atten_mask": random_mask(6, 9, dtype=FP16)}, "bool, int8 or uint8"),
    ("small compressed mask", packed, {"atten_mask": lambda: causal_mask()[:12, :12].contiguous()}, "2048x2048"),
    ("mask of the visible", packed, {"atten_mask": lambda: causal_mask().logical_not()}, "means hidden"),
    ("mask of the past, as tril", packed, {"atten_mask": lambda: torch.ones(2048, 2048, dtype=torch.bool).tril().npu()}, "torch.triu"),
    ("mask that hides the diagonal", packed, {"atten_mask": lambda: torch.ones(2048, 2048, dtype=torch.bool).triu(0).npu()}, "torch.triu"),
    ("mask too narrow", batch, {"atten_mask": random_mask(6, 8)}, "atten_mask is"),
    ("mask too long", batch, {"atten_mask": random_mask(7, 9)}, "atten_mask is"),
    ("mask for each head", batch, {"atten_mask": random_mask(2, 4, 6, 9)}, "atten_mask is"),
    ("mask of another batch", batch, {"atten_mask": random_mask(3, 1, 6, 9)}, "atten_mask is"),
    ("mask narrower than the table", paged_batch, {"atten_mask": random_mask(2, 1, 6, 255)}, "as wide as a row of block_table"),
    ("blank row", batch, {"atten_mask": lambda: torch.ones(6, 9, dtype=torch.bool).npu()}, "inner_precise 2 or 3"),
    ("one query with a compressed mask", decode, {"atten_mask": causal_mask, "sparse_mode": 3}, "for one query"),
    ("one query with inner_precise 2", decode, {"inner_precise": 2}, "inner_precise 0 and 1"),
    ("BNSD_BSND of one query", batch, all_of((2, 4, 1, 64), (2, 2, 9, 64)) | {"input_layout": "BNSD_BSND"}, "more than one query"),
    # pages
    ("no lengths of pages", paged_batch, {"actual_seq_kvlen": None}, "block table needs key/value lengths"),
    ("int64 table", paged, {"block_table": lambda: table([3, 0], [1, 2], dtype=torch.int64)}, "block_table is int32"),
    ("flat table", paged, {"block_table": lambda: table([3, 0], [1, 2]).flatten()}, "block_table is int32 \\[batch"),
    ("rows missing", paged, {"block_table": lambda: table([3, 0])}, "one row of block_table"),
    ("table too narrow", paged, {"block_table": lambda: table([3], [1])}, "kv lengths are plain"),
    ("id too large", paged, {"block_table": lambda: table([3, 4], [1, 2])}, "block ids lie in \\[0, 3\\]"),
    ("id negative", paged, {"block_table": lambda: table([3, 0], [-1, 2])}, "block ids lie in"),
    ("fewer blocks than the lengths need", paged, {"block_table": lambda: table([0, 1], [1, 2])} | same((3, 128, 256)), "at least as many blocks"),
    ("block size not the cache's", paged, {"block_size": 256}, "block_size is that of a cache"),
    ("packed blocks of 64", paged, same((6, 64, 256)) | {"block_size": 64, "block_table": lambda: table([0, 1, 2, 3], [4, 5, 0, 1])}, "a multiple of 128, at most 1024"),
    ("packed blocks of 1152", paged, same((2, 1152, 256)) | {"block_size": 1152, "block_table": lambda: table([0], [1])}, "a multiple of 128, at most 1024"),
    ("prompt blocks of 64", paged_batch, same((8, 64, 128)) | {"block_size": 64, "block_table": lambda: table([0, 1, 2, 3], [4, 5, 6, 7])}, "a multiple of 128, at most 512"),
    ("prompt blocks of 640", paged_batch, same((2, 640, 128)) | {"block_size": 640, "block_table": lambda: table([0], [1])}, "a multiple of 128, at most 512"),
    ("block size 0", paged, {"block_size": 0}, "block_size is"),
    ("decode blocks of 8", decode, same((8, 8, 128)) | {"block_size": 8, "block_table": lambda: table([0, 1, 2, 3], [4, 5, 6, 7])}, "a multiple of 16, at most 512"),
    ("decode blocks of 528", decode, same((2, 528, 128)) | {"block_size": 528, "block_table": lambda: table([0], [1])}, "a multiple of 16, at most 512"),
    ("unflattened cache", paged, same((4, 128, 2, 128)), "read as \\[blocks, KvN, block size, D\\]"),
    ("heads-first cache for BSH", paged_batch, same((4, 2, 128, 64)), "BSH queries take a cache"),
    ("heads-first cache of as many heads", paged, PAGED_MULTI_HEAD | same((4, 2, 128, 128)), "TND with as many key/value heads takes a cache"),
    ("KvN * D of 65536", decode, {"q": lambda: tensor(2, 1, 65536), "num_query_heads": 256, "num_key_value_heads": 256} | {name: lambda: torch.zeros(4, 16, 65536, dtype=BF16).npu() for name in "kv"}, "at most 65535"),
    ("a scale of the keys alone", paged, {"dequant_scale_key": lambda: tensor(1, dtype=torch.float32)}, "key and value scales come together"),
    # sinks
    ("sink of a batch", batch, {"learnable_sink": lambda: tensor(4)}, "learnable_sink is for TND"),
    ("sink of the wrong dtype", packed, {"learnable_sink": lambda: tensor(4, dtype=torch.float32)}, "learnable_sink is bfloat16"),
    ("sink of the wrong length", packed, {"learnable_sink": lambda: tensor(2)}, "learnable_sink is bfloat16"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "changes"), [c[1:] for c in LEGAL], ids=[c[0] for c in LEGAL])
def test_infer_attention_allows(call: Call, changes: dict[str, Any]):
    call(**changes)


@pytest.mark.parametrize(
    ("call", "changes", "message"), [c[1:] for c in ILLEGAL], ids=[c[0] for c in ILLEGAL]
)
def test_infer_attention_refuses(call: Call, changes: dict[str, Any], message: str):
    with pytest.raises(RuntimeError, match=message):
        call(**changes)


def test_version_1_knows_the_same_rules():
    q = tensor(3, 4, 128)
    with pytest.raises(RuntimeError, match="cumulative"):
        npu.npu_fused_infer_attention_score(
            q, q, q, num_heads=4, input_layout="TND", actual_seq_lengths=[1, 2], actual_seq_lengths_kv=[1, 3]
        )


def test_a_refusal_carries_the_code_of_the_real_one():
    with pytest.raises(RuntimeError, match="error code is 561002"):
        packed(actual_seq_qlen=[5, 7])


# ---- the other operators ---------------------------------------------------------------------------------------------
def half(*shape: int) -> Tensor:
    """fp16 on the host."""
    return torch.randn(*shape).half()


def angles(*shape: int, dtype: torch.dtype = FP16) -> Tensor:
    """Cosines, all in [-1, 1]."""
    return torch.cos(torch.randn(*shape)).to(dtype)


def rotary(x: Tensor, r: Tensor, *, sin: Tensor | None = None, mode: str = "half") -> object:
    """npu_rotary_mul."""
    return npu.npu_rotary_mul(*to_npu((x, r, r if sin is None else sin)), mode)


def rms(x: Tensor, gamma: Tensor) -> object:
    """npu_rms_norm."""
    return npu.npu_rms_norm(*to_npu((x, gamma)), 1e-6)


def add_rms(x1: Tensor, x2: Tensor, gamma: Tensor) -> object:
    """npu_add_rms_norm."""
    return npu.npu_add_rms_norm(*to_npu((x1, x2, gamma)), 1e-6)


def swiglu(x: Tensor, dim: int = -1) -> object:
    """npu_swiglu; the input goes as it is."""
    return npu.npu_swiglu(x, dim)


def scatter(**changes: Any) -> object:
    """npu_scatter_pa_kv_cache of three tokens."""
    legal: dict[str, Any] = dict(
        key=half(3, 2, 64), value=half(3, 2, 64), key_cache=torch.zeros(4, 16, 2, 64).half(),
        value_cache=torch.zeros(4, 16, 2, 64).half(), slot_mapping=torch.tensor([5, 63, 0], dtype=torch.int32), cache_mode="Norm",
    )  # fmt: skip
    arguments = to_npu(legal | changes)
    positional = [arguments.pop(n) for n in ("key", "value", "key_cache", "value_cache", "slot_mapping")]
    return npu.npu_scatter_pa_kv_cache(*positional, **{k: v for k, v in arguments.items() if v != "default"})


def scatter_nd(**changes: Any) -> object:
    """npu_scatter_nd_update_ of two rows."""
    legal = dict(a=torch.zeros(5, 3), indices=torch.tensor([[1], [4]]), updates=torch.ones(2, 3))
    arguments = to_npu(legal | changes)
    return npu.npu_scatter_nd_update_(arguments["a"], arguments["indices"], arguments["updates"])


def slots(*numbers: int, dtype: torch.dtype = torch.int32) -> dict[str, Tensor]:
    """A slot mapping."""
    return {"slot_mapping": torch.tensor(numbers, dtype=dtype)}


OTHER_LEGAL: list[tuple[str, Callable[[], object]]] = [
    ("rms_norm fp16, fp32 gamma", lambda: rms(half(3, 64), torch.ones(64))),
    ("rms_norm over two dimensions", lambda: rms(half(3, 4, 8), half(4, 8))),
    ("rms_norm strided", lambda: npu.npu_rms_norm(half(64, 3).npu().t(), half(64).npu(), 1e-6)),
    ("add_rms_norm", lambda: add_rms(half(3, 64), half(3, 64), half(64))),
    *[(f"rotary {x} {r}", lambda x=x, r=r: rotary(half(*x), angles(*r)))
      for x, r in [((2, 3, 5, 8), (1, 1, 5, 8)), ((2, 3, 5, 8), (2, 1, 5, 8)), ((2, 3, 5, 8), (2, 3, 5, 8)), ((2, 3, 5, 8), (1, 3, 1, 8)),
                   ((2, 3, 5, 8), (2, 3, 1, 8)), ((2, 3, 5, 8), (2, 1, 1, 8)), ((7, 3, 8), (7, 1, 8)), ((7, 3, 8), (7, 3, 8)), ((7, 3, 894), (7, 1, 894))]],
    ("rotary interleave", lambda: rotary(half(2, 3, 5, 8), angles(1, 1, 5, 8), mode="interleave")),
    ("rotary strided", lambda: npu.npu_rotary_mul(half(3, 2, 8).npu().transpose(0, 1), angles(2, 1, 8).npu(), angles(2, 1, 8).npu())),
    ("rotary 999 heads", lambda: rotary(half(2, 999, 8), angles(2, 1, 8))),
    ("rotary fp32 cosines, which torch_npu casts", lambda: rotary(half(7, 3, 8), angles(7, 1, 8, dtype=torch.float32))),
    ("swiglu", lambda: swiglu(half(3, 8).npu())),
    ("swiglu over the first", lambda: swiglu(half(4, 3).npu(), 0)),
    ("scatter", scatter),
    ("scatter int64 slots", lambda: scatter(**slots(1, 2, 3, dtype=torch.int64))),
    ("scatter values of another size", lambda: scatter(value=half(3, 2, 32), value_cache=torch.zeros(4, 16, 2, 32).half())),
    ("scatter NZ by default", lambda: scatter(cache_mode="default", key_cache=torch.zeros(4, 8, 16, 16).half(), value_cache=torch.zeros(4, 8, 16, 16).half())),
    ("scatter_nd", scatter_nd),
    ("scatter_nd int32", lambda: scatter_nd(indices=torch.tensor([[1], [4]], dtype=torch.int32))),
    ("scatter_nd of elements", lambda: scatter_nd(indices=torch.tensor([[1, 2], [4, 0]]), updates=torch.ones(2))),
]  # fmt: skip

OTHER_ILLEGAL: list[tuple[str, Callable[[], object], str]] = [
    ("rms_norm of one dimension", lambda: rms(half(64), half(64)), "2 to 8 dimensions"),
    ("rms_norm gamma of another size", lambda: rms(half(3, 64), half(32)), "shape of x's last dimensions"),
    ("rms_norm gamma of another half", lambda: rms(half(3, 64), half(64).bfloat16()), "gamma has x's dtype or is float32"),
    ("rms_norm fp32 with fp16 gamma", lambda: rms(torch.randn(3, 64), half(64)), "gamma has x's dtype"),
    ("add_rms_norm fp32 gamma", lambda: add_rms(half(3, 64), half(3, 64), torch.ones(64)), "have one dtype"),
    ("add_rms_norm x2 dtype", lambda: add_rms(half(3, 64), torch.randn(3, 64), half(64)), "have one dtype"),
    ("add_rms_norm shapes", lambda: add_rms(half(3, 64), half(1, 64), half(64)), "x1 and x2 have one shape"),
    ("rotary odd", lambda: rotary(half(7, 3, 9), angles(7, 1, 9)), "even|multiple"),
    ("rotary 896", lambda: rotary(half(7, 3, 896), angles(7, 1, 896)), "below 896"),
    ("rotary half-size cosines", lambda: rotary(half(7, 3, 8), angles(7, 1, 4)), "full head size"),
    ("rotary shared positions", lambda: rotary(half(7, 3, 8), angles(1, 3, 8)), "broadcasts to input"),
    ("rotary no positions", lambda: rotary(half(2, 3, 5, 8), angles(1, 1, 1, 8)), "broadcasts to input"),
    ("rotary without batch, with heads", lambda: rotary(half(2, 3, 5, 8), angles(1, 3, 5, 8)), "broadcasts to input"),
    ("rotary interleave per head", lambda: rotary(half(7, 3, 8), angles(7, 3, 8), mode="interleave"), "broadcasts to input"),
    ("rotary unlike r1 and r2", lambda: rotary(half(7, 3, 8), angles(7, 1, 8), sin=angles(7, 3, 8)), "r1 and r2"),
    ("rotary values", lambda: rotary(half(7, 3, 8), 1.1 * torch.ones(7, 1, 8).half()), "lies in \\[-1, 1\\]"),
    ("rotary sine values", lambda: rotary(half(7, 3, 8), angles(7, 1, 8), sin=-2 * torch.ones(7, 1, 8).half()), "r2 lies in"),
    ("rotary 1000 heads", lambda: rotary(half(2, 1000, 8), angles(2, 1, 8)), "below 1000"),
    ("rotary rank 2", lambda: rotary(half(7, 8), angles(7, 8)), "3 or 4 dim|dim"),
    ("swiglu odd", lambda: swiglu(half(3, 7).npu()), "even"),
    ("swiglu strided", lambda: swiglu(half(8, 3).npu().t()), "contiguous"),
    ("swiglu empty", lambda: swiglu(half(0, 8).npu()), "not empty"),
    ("swiglu int", lambda: swiglu(torch.ones(2, 2, dtype=torch.int32).npu()), "float16, bfloat16 or float32"),
    ("apply_rotary 32", lambda: npu.npu_apply_rotary_pos_emb(*to_npu((half(2, 3, 4, 32), half(2, 3, 1, 32), half(2, 3, 1, 32), half(2, 3, 1, 32)))), "64 or 128"),
    ("scatter NZ default on a flat cache", lambda: scatter(cache_mode="default"), "pass 'Norm'"),
    ("scatter NZ named on a flat cache", lambda: scatter(cache_mode="PA_NZ"), "pass 'Norm'"),
    ("scatter unknown mode", lambda: scatter(cache_mode="norm"), "cache_mode is None"),
    ("scatter dtype", lambda: scatter(value=torch.randn(3, 2, 64)), "share one dtype"),
    ("scatter heads-first cache", lambda: scatter(key_cache=torch.zeros(4, 2, 16, 64).half()), "block size, 2, 64"),
    ("scatter flat tokens", lambda: scatter(key=half(3, 128)), "tokens, heads, head size"),
    ("scatter strided key", lambda: npu.npu_scatter_pa_kv_cache(strided(3, 2, 64, dtype=FP16), *to_npu((half(3, 2, 64), torch.zeros(4, 16, 2, 64).half(), torch.zeros(4, 16, 2, 64).half(), torch.arange(3))), cache_mode="Norm"), "key is contiguous"),
    ("scatter caches differ", lambda: scatter(value_cache=torch.zeros(5, 16, 2, 64).half()), "same blocks"),
    ("scatter float slots", lambda: scatter(slot_mapping=torch.arange(3.0)), "int32 or int64"),
    ("scatter slots missing", lambda: scatter(**slots(1, 2)), "one slot for each of 3"),
    ("scatter slots of two dimensions", lambda: scatter(slot_mapping=torch.arange(3)[None]), "one slot for each of 3"),
    ("scatter slot too large", lambda: scatter(**slots(1, 64, 3)), "\\[0, 63\\]"),
    ("scatter slot -1", lambda: scatter(**slots(1, -1, 3)), "\\[0, 63\\]"),
    ("scatter slot twice", lambda: scatter(**slots(1, 3, 3)), "no slot comes twice"),
    ("scatter_nd too large", lambda: scatter_nd(indices=torch.tensor([[1], [5]])), "indices lie in \\[0, 4\\]"),
    ("scatter_nd -1", lambda: scatter_nd(indices=torch.tensor([[1], [-1]])), "indices lie in"),
    ("scatter_nd second axis", lambda: scatter_nd(indices=torch.tensor([[1, 3], [4, 0]]), updates=torch.ones(2)), "\\[0, 2\\]"),
    ("scatter_nd flat indices", lambda: scatter_nd(indices=torch.tensor([1, 4])), "2 dimensions"),
    ("scatter_nd float indices", lambda: scatter_nd(indices=torch.tensor([[1.0], [4.0]])), "int32 or int64"),
    ("scatter_nd updates", lambda: scatter_nd(updates=torch.ones(2, 2)), "updates have shape"),
    ("scatter_nd updates' dtype", lambda: scatter_nd(updates=torch.ones(2, 3).half()), "input's dtype"),
    ("scatter_nd int16", lambda: scatter_nd(a=torch.zeros(5, 3, dtype=torch.int16), updates=torch.ones(2, 3, dtype=torch.int16)), "float32/16"),
]  # fmt: skip


@pytest.mark.parametrize("call", [c[1] for c in OTHER_LEGAL], ids=[c[0] for c in OTHER_LEGAL])
def test_an_operator_allows(call: Callable[[], object]):
    call()


@pytest.mark.parametrize(
    ("call", "message"), [c[1:] for c in OTHER_ILLEGAL], ids=[c[0] for c in OTHER_ILLEGAL]
)
def test_an_operator_refuses(call: Callable[[], object], message: str):
    with pytest.raises(RuntimeError, match=message):
        call()


def test_a_refused_cache_write_changes_nothing():
    cache = torch.zeros(4, 16, 2, 64).half().npu()
    error_of(lambda: scatter(key_cache=cache, **slots(1, 64, 3)))
    assert not cache.any()


# ---- npu_fusion_attention --------------------------------------------------------------------------------------------
def fusion(**changes: Any) -> Any:
    """Two sequences of 6 queries and 9 keys."""
    legal: dict[str, Any] = dict(
        q=half(2, 4, 6, 32), k=half(2, 2, 9, 32), v=half(2, 2, 9, 32), head_num=4, input_layout="BNSD"
    )
    arguments = to_npu(legal | changes)
    q, k, v, heads, layout = (arguments.pop(n) for n in ("q", "k", "v", "head_num", "input_layout"))
    return npu.npu_fusion_attention(q, k, v, heads, layout, scale=0.1, **arguments)


def varlen(**changes: Any) -> Any:
    """Two packed sequences."""
    legal: dict[str, Any] = dict(
        q=half(12, 4, 32),
        k=half(12, 2, 32),
        v=half(12, 2, 32),
        input_layout="TND",
        actual_seq_qlen=[5, 12],
        actual_seq_kvlen=[5, 12],
    )
    return fusion(**legal | changes)


MASK = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
FUSION_LEGAL: list[tuple[str, Call, dict[str, Any]]] = [
    ("plain", fusion, {}),
    ("fp32", fusion, dict(q=torch.randn(2, 4, 6, 32), k=torch.randn(2, 2, 9, 32), v=torch.randn(2, 2, 9, 32))),
    ("D 768", fusion, dict(q=half(2, 4, 6, 768), k=half(2, 2, 9, 768), v=half(2, 2, 9, 768))),
    *[(f"mode {mode}", fusion, dict(atten_mask=MASK, sparse_mode=mode, next_tockens=0)) for mode in (2, 3, 4)],
    *[(f"mask {shape}", fusion, dict(atten_mask=torch.zeros(shape, dtype=torch.uint8))) for shape in ((6, 9), (1, 1, 6, 9), (2, 1, 6, 9), (2, 4, 6, 9))],
    ("mode 1", fusion, dict(atten_mask=torch.zeros(6, 9, dtype=torch.bool), sparse_mode=1)),
    ("packed", varlen, {}),
    ("packed mode 3", varlen, dict(atten_mask=MASK, sparse_mode=3)),
    ("packed with an empty sequence", varlen, dict(actual_seq_qlen=[5, 5, 12], actual_seq_kvlen=[5, 5, 12])),
]  # fmt: skip
FUSION_ILLEGAL: list[tuple[str, Call, dict[str, Any], str]] = [
    ("int", fusion, dict(q=torch.ones(2, 4, 6, 32, dtype=torch.int32), k=torch.ones(2, 2, 9, 32, dtype=torch.int32), v=torch.ones(2, 2, 9, 32, dtype=torch.int32)), "float16, bfloat16 or float32"),
    ("mixed dtypes", fusion, dict(k=torch.randn(2, 2, 9, 32)), "share float16"),
    ("D 784", fusion, dict(q=half(2, 4, 6, 784), k=half(2, 2, 9, 784), v=half(2, 2, 9, 784)), "1 to 768"),
    ("head_num", fusion, dict(head_num=2), "head_num is query's heads|head_num|N"),
    ("heads", fusion, dict(k=half(2, 3, 9, 32), v=half(2, 3, 9, 32)), "multiple of key/value heads"),
    ("key and value", fusion, dict(v=half(2, 2, 8, 32)), "one shape"),
    ("batch", fusion, dict(k=half(3, 2, 9, 32), v=half(3, 2, 9, 32)), "one batch size"),
    ("float mask", fusion, dict(atten_mask=torch.zeros(6, 9).half()), "bool or uint8|dtype"),
    ("mask shape", fusion, dict(atten_mask=torch.zeros(9, 6, dtype=torch.bool)), "one of the shapes"),
    ("small compressed mask", fusion, dict(atten_mask=MASK[:9, :9], sparse_mode=2), "2048x2048"),
    ("mask of the visible", fusion, dict(atten_mask=~MASK, sparse_mode=3), "means hidden"),
    ("mode 5", fusion, dict(atten_mask=torch.zeros(2, 1, 6, 9, dtype=torch.bool), sparse_mode=5), "sparse_mode 5"),
    ("band and mask disagree", fusion, dict(atten_mask=torch.zeros(6, 9, dtype=torch.bool), next_tockens=0), "pre_tockens and next_tockens"),
    ("pse", fusion, dict(pse=half(2, 4, 6, 9)), "pse"),
    ("packed without lengths", varlen, dict(actual_seq_qlen=None, actual_seq_kvlen=None), "actual_seq_qlen"),
    ("packed plain lengths", varlen, dict(actual_seq_qlen=[5, 7]), "cumulative"),
    ("packed falling lengths", varlen, dict(actual_seq_qlen=[9, 5, 12], actual_seq_kvlen=[5, 6, 12]), "cumulative"),
    ("packed padded tokens", varlen, dict(q=half(14, 4, 32)), "ends in 14 tokens"),
    ("packed counts", varlen, dict(actual_seq_kvlen=[3, 5, 12]), "must be the same"),
    ("packed 4-d mask", varlen, dict(atten_mask=torch.zeros(1, 1, 7, 7, dtype=torch.bool)), "one of the shapes"),
    ("packed blank row", varlen, dict(atten_mask=torch.ones(7, 7, dtype=torch.bool)), "hides everything"),
    ("packed 1025 sequences", varlen, dict(q=half(1025, 4, 32), k=half(1025, 2, 32), v=half(1025, 2, 32), actual_seq_qlen=list(range(1, 1026)), actual_seq_kvlen=list(range(1, 1026))), "at most 1024"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "changes"), [c[1:] for c in FUSION_LEGAL], ids=[c[0] for c in FUSION_LEGAL])
def test_fusion_attention_allows(call: Call, changes: dict[str, Any]):
    call(**changes)


@pytest.mark.parametrize(
    ("call", "changes", "message"), [c[1:] for c in FUSION_ILLEGAL], ids=[c[0] for c in FUSION_ILLEGAL]
)
def test_fusion_attention_refuses(call: Call, changes: dict[str, Any], message: str):
    with pytest.raises(RuntimeError, match=message):
        call(**changes)


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_fusion_attention_without_a_mask_is_full_whatever_its_mode(mode: int):
    q = half(1, 2, 6, 32)
    full, silent = (fusion(q=q, k=q, v=q, head_num=2, sparse_mode=m, next_tockens=0)[0] for m in (0, mode))
    assert torch.equal(full.cpu(), silent.cpu())
    causal = fusion(q=q, k=q, v=q, head_num=2, sparse_mode=2, atten_mask=MASK)[0]
    assert not torch.equal(full.cpu(), causal.cpu())


def test_a_refusal_says_the_rule_and_what_came():
    ours = [
        error_of(lambda call=call, changes=changes: call(**changes)) for _, call, changes, _ in ILLEGAL[:12]
    ]
    assert all(
        "ContractError: npu_fused_infer_attention_score: " in text and "; got " in text for text in ours
    )
