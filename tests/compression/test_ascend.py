"""Operators of torch_npu in plain torch: their numbers by definition, their traps, their refusals."""

import pytest
import torch
from torch.nn import functional as F

from helpers.compression import ascend


def codes(*shape):
    return torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(1), dtype=torch.int8)


X1, X2 = codes(5, 40), codes(40, 6)
SUMS = X1.long() @ X2.long()
SCALE, TOKENS = torch.arange(1, 7) / 1000, torch.arange(1, 6) / 10


def test_each_token_has_a_scale():
    x = (
        torch.randn(3, 16, generator=torch.Generator().manual_seed(2)) * torch.tensor([[1.0], [50], [0]])
    ).half()
    found, scale = ascend.npu_dynamic_quant(x)
    assert torch.equal(scale[:2], x[:2].float().abs().amax(1) / 127)
    assert (found[:2].float() * scale[:2, None] - x[:2].float()).abs().max() <= scale.max() / 2
    assert not found[2].any()


def test_a_product_is_int8_unless_told_otherwise():
    found = ascend.npu_quant_matmul(X1, X2, SCALE)
    assert found.dtype == torch.int8
    assert torch.equal(found.double(), (SUMS * SCALE.double()).round().clamp(-128, 127))
    assert (found.abs() >= 127).any()
    assert torch.equal(ascend.npu_quant_matmul(X1, X2, SCALE, output_dtype=torch.int32).long(), SUMS)


def test_scales_are_multiplied_for_16_bits():
    for tokens in (None, TOKENS):
        found = ascend.npu_quant_matmul(X1, X2, SCALE, pertoken_scale=tokens, output_dtype=torch.bfloat16)
        want = SUMS.double() * SCALE * (1 if tokens is None else TOKENS[:, None].double())
        assert torch.equal(found, want.to(torch.bfloat16))
    one = ascend.npu_quant_matmul(X1, X2, torch.ones(1), output_dtype=torch.bfloat16)
    assert torch.equal(one, SUMS.double().to(torch.bfloat16))


@pytest.mark.parametrize("left", [False, True])
def test_the_right_half_is_activated_unless_told_otherwise(left):
    given = {"weight_scale": SCALE[None], "activation_scale": TOKENS[:, None], "quant_mode": 1}
    given |= {"activate_left": True} if left else {}
    found, scale = ascend.npu_dequant_swiglu_quant(SUMS.int(), **given)
    one, other = (SUMS.float() * SCALE * TOKENS[:, None]).split(3, 1)
    want = F.silu(one) * other if left else F.silu(other) * one
    assert torch.allclose(scale, want.abs().amax(1) / 127)
    assert torch.equal(found, (want / scale[:, None]).round().to(torch.int8))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ascend.npu_dynamic_quant(torch.ones(2, 4)), "takes float16 or bfloat16"),
        (lambda: ascend.npu_quant_matmul(X1, X2.t(), SCALE), r"takes int8 \[T, K\] and \[K, N\]"),
        (lambda: ascend.npu_quant_matmul(X1.float(), X2, SCALE), "takes int8"),
        (lambda: ascend.npu_quant_matmul(X1, X2, TOKENS), "one for each column of x2"),
        (lambda: ascend.npu_quant_matmul(X1, X2, SCALE, pertoken_scale=TOKENS), "is output_dtype missing"),
        (lambda: ascend.npu_quant_matmul(X1, X2, SCALE, output_dtype=torch.float32), "output_dtype is int8"),
        (lambda: ascend.npu_quant_matmul(X1, X2, SCALE, pertoken_scale=SCALE, output_dtype=torch.bfloat16), r"pertoken_scale is \[5\]"),
        (lambda: ascend.npu_dequant_swiglu_quant(X1, weight_scale=SCALE, activation_scale=TOKENS, quant_mode=1), "expected int32"),
        (lambda: ascend.npu_dequant_swiglu_quant(SUMS.int(), weight_scale=SCALE[None], activation_scale=TOKENS[:, None]), "mode 0"),
        (lambda: ascend.npu_dequant_swiglu_quant(SUMS.int(), weight_scale=SCALE, activation_scale=TOKENS[:, None], quant_mode=1), "weight_scale is"),
        (lambda: ascend.npu_dequant_swiglu_quant(SUMS.int(), weight_scale=SCALE[None], activation_scale=TOKENS, quant_mode=1), "activation_scale is"),
    ],
)  # fmt: skip
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
