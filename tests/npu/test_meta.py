"""torch_npu's shape functions (meta and fake tensors) agree with what the emulated kernels gave back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.npu.support import npu, to_npu

B, H, KV, S, D = 2, 8, 2, 16, 128
MASK = torch.ones(2048, 2048, dtype=torch.bool).triu(1)


def half(*shape: int) -> Tensor:
    """fp16."""
    return torch.randn(*shape).half()


def bf16(*shape: int) -> Tensor:
    """bf16."""
    return torch.randn(*shape).bfloat16()


Case = tuple[str, tuple[Any, ...], dict[str, Any]]


def cases() -> list[Case]:
    """Calls of the operators that the course knows, in every layout."""
    found: list[Case] = []
    batches = {
        "BNSD": ((B, H, S, D), (B, KV, S, D)),
        "BSND": ((B, S, H, D), (B, S, KV, D)),
        "BSH": ((B, S, H * D), (B, S, KV * D)),
    }
    batches["BNSD_BSND"] = batches["BNSD"]
    for layout, (q, k) in batches.items():
        for lse in (False, True):
            shared = dict(num_key_value_heads=KV, input_layout=layout, atten_mask=MASK, sparse_mode=3)
            tensors = (half(*q), half(*k), half(*k))
            found.append(
                (
                    "npu_fused_infer_attention_score",
                    tensors,
                    dict(num_heads=H, scale=0.1, softmax_lse_flag=lse, **shared),
                )
            )
            found.append(
                (
                    "npu_fused_infer_attention_score_v2",
                    tensors,
                    dict(num_query_heads=H, softmax_scale=0.1, return_softmax_lse=lse, **shared),
                )
            )
    packed = (bf16(12, H, D), bf16(12, KV, D), bf16(12, KV, D))
    table = torch.arange(4, dtype=torch.int32).view(2, 2)
    for lse in (False, True):
        tnd = dict(
            num_query_heads=H,
            num_key_value_heads=KV,
            input_layout="TND",
            atten_mask=MASK,
            sparse_mode=3,
            actual_seq_qlen=[5, 12],
            return_softmax_lse=lse,
        )
        found.append(("npu_fused_infer_attention_score_v2", packed, tnd | dict(actual_seq_kvlen=[5, 12])))
        pages = (packed[0], bf16(4, 128, KV * D), bf16(4, 128, KV * D))
        found.append(
            (
                "npu_fused_infer_attention_score_v2",
                pages,
                tnd | dict(actual_seq_kvlen=[130, 256], block_table=table, block_size=128),
            )
        )
        decode = (half(B, 1, H * D), half(4, 16, KV * D), half(4, 16, KV * D))
        found.append(
            (
                "npu_fused_infer_attention_score",
                decode,
                dict(
                    num_heads=H,
                    num_key_value_heads=KV,
                    block_table=table,
                    block_size=16,
                    actual_seq_lengths_kv=[20, 32],
                    softmax_lse_flag=lse,
                ),
            )
        )
    batches["SBH"] = ((S, B, H * D), (S, B, KV * D))
    for layout in ("BNSD", "BSND", "BSH", "SBH"):
        q, k = batches[layout]
        found.append(
            (
                "npu_fusion_attention",
                (half(*q), half(*k), half(*k), H, layout),
                dict(atten_mask=MASK, sparse_mode=2),
            )
        )
    found.append(
        (
            "npu_fusion_attention",
            (*packed, H, "TND"),
            dict(atten_mask=MASK, sparse_mode=3, actual_seq_qlen=[5, 12], actual_seq_kvlen=[5, 12]),
        )
    )
    cos = torch.cos(torch.randn(1, 1, 6, 64)).half()
    caches = (
        half(5, KV, D),
        half(5, KV, D),
        half(4, 16, KV, D),
        half(4, 16, KV, D),
        torch.arange(5, dtype=torch.int32),
    )
    found += [
        ("npu_rms_norm", (half(3, 4, 64), half(64)), {}),
        ("npu_rms_norm", (torch.randn(3, 4, 64), torch.randn(4, 64)), {}),
        ("npu_gemma_rms_norm", (half(3, 4, 64), half(64)), {}),
        ("npu_add_rms_norm", (half(3, 4, 64), half(3, 4, 64), half(64)), {}),
        ("npu_rms_norm_backward", (half(3, 64), half(3, 64), half(64), torch.rand(3, 1)), {}),
        ("npu_rotary_mul", (half(1, 4, 6, 64), cos, cos), {}),
        ("npu_rotary_mul", (half(1, 4, 6, 64), cos, cos, "interleave"), {}),
        ("npu_apply_rotary_pos_emb", (half(2, 6, 4, 128), half(2, 6, 1, 128), half(2, 6, 1, 128), half(2, 6, 1, 128)), {}),
        ("npu_swiglu", (half(3, 64),), {}),
        ("npu_swiglu", (half(3, 64, 4), 1), {}),
        ("npu_swiglu_backward", (half(3, 32), half(3, 64)), {}),
        ("npu_scatter_pa_kv_cache", caches, dict(cache_mode="Norm")),
        ("npu_scatter_pa_kv_cache_functional", caches, dict(cache_mode="Norm")),
        ("npu_dtype_cast", (half(3, 4), torch.float32), {}),
        ("npu_fast_gelu", (half(3, 4),), {}),
        ("npu_gelu", (half(3, 4),), {}),
    ]  # fmt: skip
    return found


def shapes(result: Any) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of each tensor of a result."""
    return [(tuple(t.shape), t.dtype) for t in tree_leaves(result) if isinstance(t, Tensor)]


def case_id(case: Case) -> str:
    """The operator with its layout."""
    return "-".join([case[0], *(str(x) for x in (*case[1], *case[2].values()) if isinstance(x, str))])


@pytest.mark.parametrize("case", cases(), ids=case_id)
def test_shape_functions_agree(case: Case):
    name, args, kwargs = case
    operator = getattr(npu, name)
    kwargs = {**kwargs}
    real = shapes(operator(*to_npu(args), **to_npu(kwargs)))
    to_meta = lambda tree: tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, tree)  # noqa: E731
    assert shapes(operator(*to_meta(args), **to_meta(kwargs))) == real
    mode = FakeTensorMode()
    fake = tree_map(lambda x: mode.from_tensor(x.npu()) if isinstance(x, Tensor) else x, (args, kwargs))
    with mode:
        assert shapes(operator(*fake[0], **fake[1])) == real
