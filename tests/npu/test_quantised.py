"""The operators that quantise: each computes by its formula, through the real wheel, and refuses what its page forbids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers import emulated_npu
from helpers.compression import ascend
from helpers.emulated_npu.kernels import quant_products, quantise
from tests.npu.support import assert_rounded, error_of, npu, to_npu

BF16, FP16, FP32, INT8, INT32 = torch.bfloat16, torch.float16, torch.float32, torch.int8, torch.int32
M, K, N = 4, 64, 32
RAN: set[str] = set()


@pytest.fixture(autouse=True)
def _recorded() -> Iterator[None]:
    """Note which kernels ran."""
    with emulated_npu.trace() as names:
        yield
    RAN.update(names)


def half(*shape: int) -> Tensor:
    """bf16 on the host."""
    return torch.randn(*shape).to(BF16)


def codes(*shape: int, most: int = 127) -> Tensor:
    """Whole numbers that int8 (or fewer bits) hold."""
    return torch.randint(-most, most + 1, shape, dtype=INT8)


def called(name: str, defaults: dict[str, Any], changes: dict[str, Any]) -> Any:
    """An operator of torch_npu, its tensors brought to the device; the positional ones come first."""
    arguments = to_npu(defaults | changes)
    positional = [arguments.pop(key) for key in list(arguments) if key in POSITIONAL]
    return to_cpu(getattr(npu, name)(*positional, **arguments))


POSITIONAL = ("x", "x1", "x2", "gamma", "weight", "antiquant_scale", "scale_")


def to_cpu(result: Any) -> Any:
    """Results on the host."""
    return tuple(t.cpu() for t in result) if isinstance(result, tuple) else result.cpu()


def dynamic_quant(**changes: Any) -> Any:
    """Tokens in 8 bits."""
    return called("npu_dynamic_quant", {"x": half(M, K)}, changes)


def add_rms_norm(**changes: Any) -> Any:
    """Sum, norm, and the norm in 8 bits."""
    defaults = {"x1": half(M, K), "x2": half(M, K), "gamma": half(K)}
    return called("npu_add_rms_norm_dynamic_quant", defaults, changes)


def swiglu_quant(**changes: Any) -> Any:
    """SwiGLU in 8 bits, with each token's own scale."""
    return called("npu_swiglu_quant", {"x": half(M, 2 * K), "activate_left": True, "quant_mode": 1}, changes)


def dequant_swiglu(**changes: Any) -> Any:
    """SwiGLU of a product's int32 sums, in 8 bits."""
    defaults = {
        "x": torch.randint(-999, 999, (M, 2 * K), dtype=INT32), "weight_scale": torch.rand(1, 2 * K) / 999,
        "activation_scale": torch.rand(M, 1), "activate_left": True, "quant_mode": 1,
    }  # fmt: skip
    return called("npu_dequant_swiglu_quant", defaults, changes)


def product(**changes: Any) -> Any:
    """int8 times int8, in bf16."""
    defaults = {"x1": codes(M, K), "x2": codes(K, N), "scale_": torch.rand(N), "output_dtype": BF16}
    return called("npu_quant_matmul", defaults, changes)


def weight_product(**changes: Any) -> Any:
    """bf16 times int8."""
    return called(
        "npu_weight_quant_batchmatmul",
        {"x": half(M, K), "weight": codes(K, N), "antiquant_scale": torch.rand(N).to(BF16)},
        changes,
    )


def dynamic(x: Tensor, most: int = 127) -> tuple[Tensor, Tensor]:
    """Codes and scales by definition, number by number."""
    scale = torch.tensor([max(map(abs, row)) / most for row in x.flatten(0, -2).tolist()])
    rows = [
        [round(v / s) for v in row]
        for row, s in zip(x.double().flatten(0, -2).tolist(), scale.double().tolist(), strict=True)
    ]
    return torch.tensor(rows, dtype=INT8).view(x.shape), scale.view(x.shape[:-1])


def assert_codes(got: tuple[Tensor, Tensor], exact: Tensor, most: int = 127) -> None:
    """Scales are those of the exact numbers, codes too, but for one step at the border between two codes."""
    want, scale = dynamic(exact.float(), most)
    torch.testing.assert_close(got[1], scale, rtol=1e-5, atol=0)
    assert ((got[0].int() - want.int()).abs() <= 1).all()
    assert (got[0] == want).float().mean() > 0.98


def int4(packed: Tensor) -> Tensor:
    """Eight numbers of each int32, lowest bits first."""
    numbers = [[(int(v) >> (4 * i)) & 15 for v in row for i in range(8)] for row in packed]
    return torch.tensor([[v - 16 if v > 7 else v for v in row] for row in numbers], dtype=INT8)


# ---- what they compute -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(M, K), (2, 3, 16)])
@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_dynamic_quant(shape: tuple[int, ...], dtype: torch.dtype):
    x = torch.randn(*shape).to(dtype)
    assert_codes(dynamic_quant(x=x), x)
    smooth = torch.rand(shape[-1]).to(dtype)
    assert_codes(dynamic_quant(x=x, smooth_scales=smooth), x.float() * smooth.float())


def test_dynamic_quant_of_zeros_and_into_4_bits():
    y, scale = dynamic_quant(x=torch.zeros(2, 8, dtype=BF16))
    assert not y.any()
    assert not scale.any()
    x = half(M, K)
    y, scale = dynamic_quant(x=x, dst_type=torch.quint4x2)
    assert (y.dtype, tuple(y.shape)) == (INT32, (M, K // 8))
    assert_codes((int4(y), scale), x, most=7)


def test_add_rms_norm_dynamic_quant():
    x1, x2, gamma, smooth, beta = half(M, K), half(M, K), half(K), half(K), half(K)
    total = (x1.float() + x2.float()).to(BF16)
    norm = F.rms_norm(total.float(), (K,), gamma.float(), 1e-6)
    y, _, x, scale, _ = add_rms_norm(x1=x1, x2=x2, gamma=gamma)
    assert torch.equal(x, total)
    assert_codes((y, scale), norm)
    first, second, x, scale1, scale2 = add_rms_norm(
        x1=x1, x2=x2, gamma=gamma, beta=beta, smooth_scale1=smooth, smooth_scale2=gamma
    )
    assert_codes((first, scale1), (norm + beta.float()) * smooth.float())
    assert_codes((second, scale2), (norm + beta.float()) * gamma.float())
    _, second, _, _, scale = add_rms_norm(x1=x1, x2=x2, gamma=gamma, output_mask=[False, True])
    assert_codes((second, scale), norm)


@pytest.mark.parametrize("left", [True, False])
def test_swiglu_quant(left: bool):
    x = half(M, 2 * K)
    a, b = x.float().chunk(2, -1)
    wide = F.silu(a) * b if left else a * F.silu(b)
    assert_codes(swiglu_quant(x=x, activate_left=left), wide)
    smooth = torch.rand(1, K)
    assert_codes(swiglu_quant(x=x, activate_left=left, smooth_scales=smooth), wide * smooth)
    fixed = swiglu_quant(
        x=x, activate_left=left, quant_mode=0, smooth_scales=10 * smooth, offsets=torch.full((1, K), 3.0)
    )[0]
    want = (wide * 10 * smooth + 3).round().clamp(-128, 127)
    assert ((fixed - want).abs() <= 1).all()
    assert (fixed == want).float().mean() > 0.98


def test_dequant_swiglu_quant():
    x, weights, tokens = (
        torch.randint(-999, 999, (M, 2 * K), dtype=INT32),
        torch.rand(1, 2 * K) / 99,
        torch.rand(M, 1),
    )
    bias = torch.randint(-99, 99, (2 * K,), dtype=INT32)
    for more, sums in (({}, x), ({"bias": bias}, x + bias)):
        a, b = (sums * weights * tokens).chunk(2, -1)
        assert_codes(
            dequant_swiglu(x=x, weight_scale=weights, activation_scale=tokens, **more), F.silu(a) * b
        )
    a, b = (x * weights * tokens).chunk(2, -1)
    smooth = torch.rand(1, K)
    got = dequant_swiglu(
        x=x, weight_scale=weights, activation_scale=tokens, quant_scale=smooth, activate_left=False
    )
    assert_codes(got, F.silu(b) * a * smooth)
    fixed = dequant_swiglu(
        x=x, weight_scale=weights, activation_scale=tokens, quant_mode=0, quant_scale=smooth
    )[0]
    assert ((fixed - (F.silu(a) * b * smooth).round().clamp(-128, 127)).abs() <= 1).all()


def exact(x1: Tensor, x2: Tensor) -> Tensor:
    """int32 sums."""
    return x1.long() @ x2.long()


@pytest.mark.parametrize("transposed", [False, True], ids=["[K, N]", "view of [N, K]"])
def test_quant_matmul(transposed: bool):
    a, b, scale, tokens = codes(M, K), codes(K, N), torch.rand(N), torch.rand(M)
    there = b.t().contiguous().npu().t() if transposed else b
    bias = torch.randint(-999, 999, (N,), dtype=INT32)
    sums = product(x1=a, x2=there, scale_=scale, output_dtype=INT32, bias=bias)
    assert torch.equal(sums, (exact(a, b) + bias).int())
    assert torch.equal(sums, torch._int_mm(a.repeat(8, 1), b)[:M] + bias)
    wide = exact(a, b).double() * scale.double() * tokens.double()[:, None]
    assert_rounded(product(x1=a, x2=there, scale_=scale, pertoken_scale=tokens), wide)
    shift = torch.randn(N)
    assert_rounded(
        product(x1=a, x2=there, scale_=scale, pertoken_scale=tokens, bias=shift), wide + shift.double()
    )
    got = product(x1=a, x2=there, scale_=scale / 999, pertoken_scale=tokens, output_dtype=FP16)
    assert_rounded(got, wide / 999)


def test_quant_matmul_without_token_scales_goes_through_packed_scales():
    """fp32 scales for int8 or fp16 outputs become int64 on the way: torch_npu calls npu_trans_quant_param itself."""
    a, b, scale, offset = codes(M, K), codes(K, N), torch.rand(N) / 999, torch.full((N,), -7.0)
    wide = exact(a, b).double() * scale.double()
    assert torch.equal(
        product(x1=a, x2=b, scale_=scale, output_dtype=None), wide.round().clamp(-128, 127).to(INT8)
    )
    got = product(x1=a, x2=b, scale_=scale, offset=offset, output_dtype=None)
    assert torch.equal(got, (wide - 7).round().clamp(-128, 127).to(INT8))
    packed = npu.npu_trans_quant_param(scale.npu(), offset.npu())
    assert torch.equal(product(x1=a, x2=b, scale_=packed, output_dtype=None), got)
    assert_rounded(product(x1=a, x2=b, scale_=scale, output_dtype=FP16), wide)


def test_quant_matmul_of_4_bits():
    a, b = codes(M, K, most=7), codes(K, N, most=7)
    packed = [npu.npu_convert_weight_to_int4pack(t.int().npu()) for t in (a, b)]
    scale = torch.rand(N)
    got = product(x1=packed[0], x2=packed[1], scale_=scale / 99, output_dtype=FP16)
    assert_rounded(got, exact(a, b).double() * (scale / 99).double())


@pytest.mark.parametrize("group", [0, 32])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("with_offset", [True, False])
def test_weight_quant_batchmatmul(group: int, bits: int, with_offset: bool):
    x, weight = half(M, K), codes(K, N, most=127 if bits == 8 else 7)
    shape = (K // group, N) if group else (N,)
    scale, offset, bias = torch.rand(shape).to(BF16), torch.randn(shape).to(BF16), torch.randn(N)
    more: dict[str, Any] = {"antiquant_offset": offset} if with_offset else {}
    stored = weight if bits == 8 else npu.npu_convert_weight_to_int4pack(weight.int().npu())
    got = weight_product(
        x=x, weight=stored, antiquant_scale=scale, antiquant_group_size=group, bias=bias, **more
    )
    spread = [t.double().repeat_interleave(group, 0) if group else t.double() for t in (scale, offset)]
    numbers = (weight.double() + (spread[1] if with_offset else 0)) * spread[0]
    want = x.double() @ numbers + bias.double()
    torch.testing.assert_close(got.double(), want, rtol=2**-7, atol=float(want.abs().max()) * 1e-4)


# ---- what they refuse ------------------------------------------------------------------------------------------------
def test_the_defaults_are_traps():
    """8-bit outputs, and the wrong half through silu: no error says so."""
    assert product(output_dtype=None).dtype == INT8
    x = half(M, 2 * K)
    assert not torch.equal(swiglu_quant(x=x, activate_left=False)[0], swiglu_quant(x=x)[0])


def test_plain_versions_with_the_same_defaults():
    """The lab's operators give what the wheel's give, and fall into the same traps."""
    x, weight, scale = half(M, K), codes(2 * N, K), torch.rand(2 * N) / 999
    tokens, own = ascend.npu_dynamic_quant(x)
    there, theirs = dynamic_quant(x=x)
    assert torch.equal(there, tokens)
    assert torch.equal(theirs, own)
    given: dict[str, Any] = {"x1": tokens, "x2": weight.t().contiguous(), "scale_": scale}
    for options in ({}, {"output_dtype": INT32}, {"output_dtype": BF16, "pertoken_scale": own}):
        plain = ascend.npu_quant_matmul(tokens, weight.t(), scale, **options)
        assert torch.equal(
            product(**given, **({"pertoken_scale": None, "output_dtype": None} | options)), plain
        )
    sums = ascend.npu_quant_matmul(tokens, weight.t(), scale, output_dtype=INT32)
    for left in (False, True):
        more = {
            "weight_scale": scale[None],
            "activation_scale": own[:, None],
            "activate_left": left,
            "quant_mode": 1,
        }
        for got, want in zip(
            dequant_swiglu(x=sums, **more), ascend.npu_dequant_swiglu_quant(sums, **more), strict=True
        ):
            assert torch.allclose(got.float(), want.float(), rtol=1e-5, atol=1)


ILLEGAL: list[tuple[str, Callable[..., Any], dict[str, Any], str]] = [
    ("dq fp32", dynamic_quant, dict(x=torch.randn(M, K)), "x is float16 or bfloat16"),
    ("dq one dimension", dynamic_quant, dict(x=half(K)), "greater than 1"),
    ("dq smooth fp32", dynamic_quant, dict(smooth_scales=torch.rand(K)), "smooth_scales is float16 or bfloat16"),
    ("dq smooth of another size", dynamic_quant, dict(smooth_scales=half(K - 1)), "one element for each"),
    ("dq smooth of two dimensions", dynamic_quant, dict(smooth_scales=half(1, K)), "one element for each"),
    ("dq int4 of 60", dynamic_quant, dict(x=half(M, 60), dst_type=torch.quint4x2), "divded by 8"),
    ("arn fp32", add_rms_norm, dict(x1=torch.randn(M, K)), "x1 is float16 or bfloat16"),
    ("arn x2 of another type", add_rms_norm, dict(x2=half(M, K).half()), "x2 has x1's dtype"),
    ("arn x2 of another shape", add_rms_norm, dict(x2=half(M + 1, K)), "x1 and x2 must be the same"),
    ("arn one dimension", add_rms_norm, dict(x1=half(K), x2=half(K)), "2~8D"),
    ("arn gamma fp32", add_rms_norm, dict(gamma=torch.ones(K)), "gamma has x1's dtype"),
    ("arn gamma of two dimensions", add_rms_norm, dict(gamma=half(M, K)), "gamma is a vector"),
    ("arn smooth fp32", add_rms_norm, dict(smooth_scale1=torch.ones(K)), "smooth_scale1 has x1's dtype"),
    ("arn smooth2 of another size", add_rms_norm, dict(smooth_scale2=half(K + 1)), "smooth_scale2 is a vector"),
    ("arn beta of another type", add_rms_norm, dict(beta=torch.ones(K)), "beta has x1's dtype"),
    ("arn mask without output", add_rms_norm, dict(output_mask=[False, False]), "at least one of y1 and y2"),
    ("arn smooth1 masked", add_rms_norm, dict(smooth_scale1=half(K), output_mask=[False, True]), "needs output 1"),
    ("arn smooth2 masked", add_rms_norm, dict(smooth_scale2=half(K), output_mask=[True, False]), "needs output 2"),
    ("sw int", swiglu_quant, dict(x=torch.ones(M, K, dtype=INT32)), "x is float16, bfloat16 or float32"),
    ("sw one dimension", swiglu_quant, dict(x=half(2 * K)), "more than one dimension"),
    ("sw odd", swiglu_quant, dict(x=half(M, 7)), "should be even"),
    ("sw too long", swiglu_quant, dict(x=half(2, 8194)), "larger than 8192"),
    ("sw smooth of 16 bits", swiglu_quant, dict(smooth_scales=half(1, K)), "smooth_scales is float32"),
    ("sw smooth of another size", swiglu_quant, dict(smooth_scales=torch.ones(1, K + 1)), "smooth_scales is "),
    ("sw static without scales", swiglu_quant, dict(quant_mode=0), "needs smooth_scales"),
    ("sw mode 2", swiglu_quant, dict(quant_mode=2), "quant_mode"),
    ("ds fp32", dequant_swiglu, dict(x=torch.randn(M, 2 * K)), "x is int32"),
    ("ds three dimensions", dequant_swiglu, dict(x=torch.ones(1, M, 2 * K, dtype=INT32)), r"\[tokens, 2H\]"),
    ("ds without token scales", dequant_swiglu, dict(activation_scale=None), "int32 needs activation_scale"),
    ("ds token scales of 16 bits", dequant_swiglu, dict(activation_scale=half(M, 1)), "activation_scale is one of"),
    ("ds token scales as a vector", dequant_swiglu, dict(activation_scale=torch.rand(M)), "activation_scale is"),
    ("ds weight scale as a vector", dequant_swiglu, dict(weight_scale=torch.rand(2 * K)), "weight_scale is"),
    ("ds weight scale of 16 bits", dequant_swiglu, dict(weight_scale=half(1, 2 * K)), "weight_scale is one of"),
    ("ds quant scale of 2H", dequant_swiglu, dict(quant_scale=torch.rand(1, 2 * K)), "quant_scale is"),
    ("ds token scales beside bf16", dequant_swiglu, dict(x=half(M, 2 * K)), "are for int32"),
    ("ds bias fp32", dequant_swiglu, dict(bias=torch.ones(2 * K)), "bias is int32"),
    ("ds static without scale", dequant_swiglu, dict(quant_mode=0), "needs a float32 quant_scale"),
    ("ds static scale of 16 bits", dequant_swiglu, dict(quant_mode=0, quant_scale=half(1, K)), "float32 quant_scale"),
    ("qm bf16", product, dict(x1=half(M, K)), "both int8"),
    ("qm int8 and int32", product, dict(x2=torch.ones(K, N, dtype=INT32)), "both int8"),
    ("qm weight not transposed", product, dict(x2=codes(N, K)), r"x1 is \[M, K\]"),
    ("qm scale of rows", product, dict(scale_=torch.rand(M)), "one for each column"),
    ("qm scale of two dimensions", product, dict(scale_=torch.rand(1, N)), "one for each column"),
    ("qm scale fp16", product, dict(scale_=torch.rand(N).half()), "scale is one of"),
    ("qm token scales of 16 bits", product, dict(pertoken_scale=half(M)), "pertoken_scale is float32"),
    ("qm token scales of columns", product, dict(pertoken_scale=torch.rand(N)), "one for each row"),
    ("qm token scales of two dimensions", product, dict(pertoken_scale=torch.rand(M, 1)), "one for each row"),
    ("qm token scales, int8 out", product, dict(pertoken_scale=torch.rand(M), output_dtype=None), "no pertoken_scale"),
    ("qm token scales, int32 out", product, dict(pertoken_scale=torch.rand(M), output_dtype=INT32), "no pertoken"),
    ("qm fp16 with bf16 scale", product, dict(scale_=half(N), output_dtype=FP16), "scale is one of"),
    ("qm fp32 out", product, dict(output_dtype=FP32), "output_dtype is"),
    ("qm offset, bf16 out", product, dict(offset=torch.rand(N)), "offset is for int8 output"),
    ("qm float bias, int32 out", product, dict(bias=torch.rand(N), output_dtype=INT32), "bias is one of"),
    ("qm float bias, int8 out", product, dict(bias=torch.rand(N), output_dtype=None), "bias is one of"),
    ("qm bias of rows", product, dict(bias=torch.rand(M)), r"bias is \[32\]"),
    ("qm too wide", product, dict(x2=codes(K, 65536), scale_=torch.rand(1)), "at most 65535"),
    ("qm one dimension", product, dict(x1=codes(K), x2=codes(K, N)), "2 to 6 dimensions"),
    ("wq fp32", weight_product, dict(x=torch.randn(M, K), antiquant_scale=torch.rand(N)), "x is float16 or bfloat16"),
    ("wq scale of another type", weight_product, dict(antiquant_scale=torch.rand(N).half()), "antiquant_scale has x's dtype"),
    ("wq scale of rows", weight_product, dict(antiquant_scale=half(K)), "antiquant_scale is one of"),
    ("wq group of 31", weight_product, dict(antiquant_scale=half(3, N), antiquant_group_size=31), "multiple of 32"),
    ("wq group of 48", weight_product, dict(antiquant_scale=half(2, N), antiquant_group_size=48), "multiple of 32"),
    ("wq group of K", weight_product, dict(antiquant_scale=half(1, N), antiquant_group_size=K), "weight_k_dim - 1"),
    ("wq too few groups", weight_product, dict(antiquant_scale=half(1, N), antiquant_group_size=32), "is one of"),
    ("wq offset of another shape", weight_product, dict(antiquant_offset=half(1, N)), "dtype and shape"),
    ("wq offset of another type", weight_product, dict(antiquant_offset=torch.rand(N)), "dtype and shape"),
    ("wq bias bf16", weight_product, dict(bias=half(N)), "bias is torch.float32"),
    ("wq bias of rows", weight_product, dict(bias=torch.rand(M)), r"bias is \[32\]"),
    ("wq weight fp16", weight_product, dict(weight=half(K, N)), "weight is int8, or int32"),
    ("wq weight not transposed", weight_product, dict(weight=codes(N, K), antiquant_scale=half(K)), "k of x and weight should be equal"),
    ("wq too wide", weight_product, dict(weight=codes(K, 65536), antiquant_scale=half(1)), "K and N are at most 65535"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "changes", "message"), [c[1:] for c in ILLEGAL], ids=[c[0] for c in ILLEGAL]
)
def test_refuses(call: Callable[..., Any], changes: dict[str, Any], message: str):
    call()  # without the change it passes
    with pytest.raises(RuntimeError, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("call", "changes"),
    [
        (dynamic_quant, dict(group_index=torch.tensor([M], dtype=INT32), smooth_scales=half(1, K))),
        (swiglu_quant, dict(group_index=torch.tensor([M], dtype=INT32), smooth_scales=torch.ones(1, K))),
        (dequant_swiglu, dict(group_index=torch.tensor([M]))),
        (dequant_swiglu, dict(swiglu_mode=1)),
        (weight_product, dict(quant_scale=torch.rand(N))),
    ],
)
def test_what_is_allowed_and_not_emulated_says_so(call: Callable[..., Any], changes: dict[str, Any]):
    assert "is not emulated" in error_of(lambda: call(**changes))


def test_every_quantised_operator_ran(request: pytest.FixtureRequest):
    """No entry of the two tables is there untested."""
    if request.session.testscollected < 90:
        pytest.skip("needs the whole module")
    assert sorted({*quantise.OPERATORS, *quant_products.OPERATORS} - RAN) == []
