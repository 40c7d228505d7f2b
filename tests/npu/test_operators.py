"""Each emulated operator computes: PyTorch's own samples (OpInfo) and cases of our own, against the CPU.

`test_every_operator_ran` holds the table against what ran, so it needs the whole module.
"""

from __future__ import annotations

import sys
import types
import unittest
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from helpers import emulated_npu
from helpers.emulated_npu.kernels import quant_products, quantise
from tests.npu.support import npu, to_npu

# torch's samples live beside its own test base class, which wants this package; nothing here uses it.
sys.modules.setdefault("expecttest", types.ModuleType("expecttest")).__dict__.setdefault(
    "TestCase", unittest.TestCase
)
from torch.testing._internal import common_methods_invocations as samples  # noqa: E402
from torch.testing._internal import common_utils  # noqa: E402
from torch.testing._internal.opinfo import core as opinfo  # noqa: E402

# Would walk the whole stack for each operator, seven eighths of the time, to find a unittest; there is none here.
common_utils.extract_test_fn = opinfo.extract_test_fn = lambda: None

RAN: set[str] = set()
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}

# What differs from the CPU by design of torch_npu or CANN, not of the emulation.
DIFFERENT = {
    "double": "torch_npu casts float64 to float32",
    "float_power": "torch_npu casts float64 to float32",
    "nn.functional.gelu": "CANN documents aclnnGelu as the tanh form; torch_npu ignores `approximate`",
    "native_batch_norm": "torch_npu gives statistics outside training, too",
    "_native_batch_norm_legit": "torch_npu gives statistics outside training, too",
    "native_layer_norm": "torch_npu keeps its statistics in float32",
    "sort": "the order of equal elements",
    "argsort": "the order of equal elements",
}
RANDOM = (
    "rand",
    "normal",
    "bernoulli",
    "dropout",
    "exponential",
    "geometric",
    "cauchy",
    "uniform",
    "rrelu",
    "multinomial",
    "empty",
    "pca",
    "fractional",
    "multi_head_attention_forward",
)


@pytest.fixture(autouse=True)
def _recorded() -> Iterator[None]:
    """Remembers which operators ran."""
    with emulated_npu.trace() as names, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    RAN.update(names)


def detached(tree: Any) -> Any:
    """Copies of all tensors."""
    return tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, tree)


def tensors(tree: Any) -> list[Tensor]:
    """All tensors, on the host."""
    return [x.cpu() for x in tree_leaves(tree) if isinstance(x, Tensor)]


def on_device(tree: Any) -> Any:
    """Copies of all tensors on the device, and its name for the host's."""
    move = lambda x: torch.device("npu") if isinstance(x, torch.device) and x.type == "cpu" else x  # noqa: E731
    return to_npu(tree_map(move, detached(tree)))


def assert_same(got: Any, expected: Any) -> None:
    """Tensor for tensor the same, up to the dtype's tolerance."""
    mine, right = tensors(got), tensors(expected)
    assert len(mine) == len(right)
    for a, b in zip(mine, right, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        tolerance = TOLERANCE.get(b.dtype, 1e-4)
        torch.testing.assert_close(
            a,
            b,
            rtol=tolerance,
            atol=tolerance / 10 if b.dtype == torch.float32 else tolerance,
            equal_nan=True,
        )


# How torch says no. Any other error fails a test; that few calls are refused is what the counts below hold.
REFUSALS = (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError)


def compared(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """`equal`, `refused` (by the emulation or torch_npu) or `none` (the CPU refuses, too); anything else fails."""
    try:
        expected = function(*detached(arguments))
    except REFUSALS:
        return "none"
    try:
        got = function(*on_device(arguments))
    except REFUSALS:
        return "refused"
    assert_same(got, expected)
    return "equal"


def gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """The gradients of the sum of squares of a function's results in all its float arguments."""

    def run(*arguments: Any) -> Any:
        leaves = [
            x.requires_grad_()
            for x in tree_leaves(arguments)
            if isinstance(x, Tensor) and x.is_floating_point()
        ]
        outs = [o for o in tree_leaves(function(*arguments)) if isinstance(o, Tensor) and o.requires_grad]
        return (
            torch.autograd.grad(sum((o * o).sum() for o in outs), leaves, allow_unused=True)
            if outs and leaves
            else ()
        )

    return run


def opinfo_cases(dtype: torch.dtype, grad: bool) -> list[Any]:
    """PyTorch's operators that take a dtype, without those that draw random numbers or differ by design."""
    return [
        op
        for op in samples.op_db
        if dtype in op.supported_dtypes("cpu")
        and (op.supports_autograd or not grad)
        and op.name not in DIFFERENT
        and not any(word in op.name for word in RANDOM)
    ]


# How many of those operators must agree at least; the rest is refused, loudly. A fall means a lost operator.
@pytest.mark.parametrize(
    ("dtype", "count", "grad", "least"),
    [
        (torch.float32, 2, False, 560),
        (torch.float32, 1, True, 395),
        (torch.bfloat16, 1, False, 455),
        (torch.int64, 1, False, 410),
        (torch.bool, 1, False, 315),
        (torch.complex64, 1, False, 200),
    ],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_samples_of_pytorch(dtype: torch.dtype, count: int, grad: bool, least: int):
    agreeing, wrong = 0, []
    for op in opinfo_cases(dtype, grad):
        outcomes = set()
        for sample in islice(op.sample_inputs("cpu", dtype), count):
            if sample.kwargs.get("dropout_p") or (sample.kwargs.get("p", 0) and "dropout" in op.name):
                continue
            call = lambda value, args, op=op, kw=sample.kwargs: op(value, *args, **on_like(kw, value))  # noqa: E731
            try:
                outcomes.add(compared(gradients(call) if grad else call, (sample.input, sample.args)))
            except AssertionError as error:
                wrong.append(f"{op.name}.{op.variant_test_name}: {str(error).splitlines()[:3]}")
        agreeing += "equal" in outcomes
    assert not wrong, "\n".join(wrong)
    assert agreeing >= least


def on_like(kwargs: dict[str, Any], value: Any) -> dict[str, Any]:
    """Keyword arguments where the call's first tensor is."""
    first = next((x for x in tree_leaves(value) if isinstance(x, Tensor)), None)
    return on_device(kwargs) if first is not None and first.device.type == "npu" else detached(kwargs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_in_place_and_operator_forms(dtype: torch.dtype):
    """`x.add_(y)`, `x + y` and `x += y` of PyTorch's operators."""
    agreeing = 0
    for op in opinfo_cases(dtype, False):
        forms = [
            op.inplace_variant,
            op.inplace_operator_variant,
            None if dtype == torch.bool else op.operator_variant,
        ]
        forms = [form for form in forms if form is not None]
        for sample in (
            islice(op.sample_inputs("cpu", dtype), 2 if dtype == torch.float32 else 1) if forms else ()
        ):
            for form in forms:

                def call(value, args, form=form, kw=sample.kwargs):
                    return form(value, *args, **on_like(kw, value))

                agreeing += compared(call, (sample.input, sample.args)) == "equal"
    assert agreeing >= LEAST_FORMS[dtype]


@pytest.mark.parametrize("family", ["unary", "binary", "pointwise", "reduce", "other"])
def test_lists_of_tensors(family: str):
    """torch._foreach_*, which optimisers call."""
    agreeing = 0
    for op in getattr(samples, f"foreach_{family}_op_db"):
        for sample in islice(op.sample_inputs("cpu", torch.float32, noncontiguous=False), 6):
            forms = [
                op.method_variant or op.op,
                _returning_first(op.inplace_variant) if op.inplace_variant else None,
            ]
            for form in forms:
                if form is not None:

                    def call(value, args, form=form, kw=sample.kwargs):
                        return form(value, *args, **on_like(kw, value))

                    agreeing += compared(call, (sample.input, sample.args)) == "equal"
    assert agreeing >= LEAST_LISTS[family]


LEAST_FORMS = {torch.float32: 260, torch.int64: 100, torch.bool: 50}
LEAST_LISTS = {"unary": 50, "binary": 100, "pointwise": 14, "reduce": 5, "other": 4}


def _returning_first(form: Callable[..., Any]) -> Callable[..., Any]:
    """An in-place operator as a function of its first argument."""

    def run(value: Any, *args: Any, **kwargs: Any) -> Any:
        form(value, *args, **kwargs)
        return value

    return run


# ---- cases of our own, for what the samples do not reach -------------------------------------------------------------
X = torch.linspace(-2, 2, 36).view(6, 6)[torch.randperm(6, generator=torch.Generator().manual_seed(1))]
N = torch.arange(1, 37).view(6, 6) % 9 + 1
ONE = 0.8 * torch.linspace(-1, 1, 16).view(4, 4)
ROWS = torch.tensor([1, 3])
PLACES = torch.arange(36).view(6, 6) * 5 % 6
_UNARY = "acos acosh asin asinh atan atanh cos cosh erf erfc erfinv exp2 expm1 floor frac log10 log1p log2 rsqrt sigmoid sin sinc sinh sqrt tan tanh reciprocal abs ceil exp log neg round sign trunc"
_ACTIVATIONS = "relu hardswish hardsigmoid mish silu"


def _called(name: str, *args: Any) -> Callable[[Tensor], Tensor]:
    """A method with some arguments."""
    return lambda t: getattr(t, name)(*args)


OWN: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{f"{name}_": (_called(name + "_"), (ONE.abs() + 1.1 if name == "acosh" else ONE.abs() + 0.01,)) for name in _UNARY.split()},
    **{f"inplace {name}": (lambda t, name=name: getattr(F, name)(t, inplace=True), (X,)) for name in _ACTIVATIONS.split()},
    **{f"{name}_": (lambda t, o, name=name: (getattr(t.clone(), name + "_")(o), getattr(t.clone(), name + "_")(0.5)), (X, X.round())) for name in ["eq", "ne", "lt", "le", "gt", "ge"]},
    **{
        f"bitwise_{name}_": (lambda t, o, name=name: [getattr(t, f"bitwise_{name}")(3), getattr(t.clone(), f"bitwise_{name}_")(5), getattr(t.clone(), f"bitwise_{name}_")(o)], (N, N + 1))
        for name in ("and", "or", "xor")
    },
    "logical in place": (lambda a, b: [a.clone().logical_and_(b), a.clone().logical_or_(b), a.clone().logical_xor_(b), a.clone().logical_not_()], (X > 0, X > 1)),
    "shifts": (lambda a: (a << 2, a >> 1, a.clone().__ilshift__(1), a.clone().__irshift__(a % 3)), (N,)),
    "rsub": (lambda a: (3 - a, torch.rsub(a, a, alpha=2)), (X,)),
    "remainder": (lambda a: (7 % a, torch.remainder(torch.tensor(7), a), a.clone().remainder_(3), a.clone().remainder_(a + 1)), (N,)),
    "floor_divide": (lambda a: (a // 2, a.clone().floor_divide_(2), a.clone().floor_divide_(a + 1)), (N,)),
    "fmod": (lambda a: (torch.fmod(a, 2), a.clone().fmod_(3), a.clone().fmod_(a + 1)), (N,)),
    "div modes": (lambda a: [f for m in ("trunc", "floor") for f in (torch.div(a, 2, rounding_mode=m), torch.div(a, a + 3.5, rounding_mode=m), a.clone().div_(2.0, rounding_mode=m), a.clone().div_(a + 3.5, rounding_mode=m))] + [a.clone().div_(2.0)], (X,)),
    "alpha": (lambda a: (a.clone().sub_(2, alpha=3), a.clone().add_(2, alpha=3), a.clone().mul_(3), a.clone().sub_(a, alpha=2)), (X,)),
    "clamp": (lambda a: (a.clamp(max=0.2), a.clone().clamp_(min=0.1), a.clone().clamp_max_(torch.zeros_like(a)), a.clone().clamp_min_(torch.zeros_like(a)), torch.clamp_max(a, 0.3), torch.clamp_min(a, 0.3), a.clone().clamp_max_(0.2), a.clone().clamp_min_(0.2)), (X,)),
    "lerp": (lambda a: (a.lerp(a + 1, a), a.lerp(a + 1, 0.3), a.clone().lerp_(a + 1, 0.3), a.clone().lerp_(a + 1, a)), (X,)),
    "addc": (lambda a: (a.clone().addcmul_(a, a, value=2), a.clone().addcdiv_(a, a + 5, value=2)), (X,)),
    "nan_to_num": (lambda a: (a.nan_to_num(1.0, 2.0, 3.0), a.clone().nan_to_num_(1.0, 2.0, 3.0)), (torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0]),)),
    "diagonal and triangles": (lambda a: (a.clone().fill_diagonal_(7.0), a.clone().triu_(1), a.clone().tril_(-1)), (X,)),
    "index_fill": (lambda a, i: (a.index_fill(1, i, 2.0), a.clone().index_fill_(0, i, 3.0), a.index_fill(0, i, torch.tensor(4.0, device=a.device))), (X, ROWS)),
    "index_copy": (lambda a, i: (a.clone().index_copy_(0, i, a[i] * 2), a.index_copy(0, i, a[i] * 2), a.index_add(0, i, a[i], alpha=2)), (X, ROWS)),
    "put and take": (lambda a, i: (a.clone().put_(i, a.flatten()[i]), a.clone().put_(i, a.flatten()[i], accumulate=True), a.take(i)), (X, ROWS)),
    "masked": (lambda a: (a.masked_fill(a > 0, 1.0), a.masked_fill(a > 0, torch.tensor(2.0, device=a.device)), a.masked_scatter(a > 0, a + 1), a.masked_select(a > 0)), (X,)),
    "fill by a tensor": (lambda a: a.clone().fill_(a[0, 0]), (X,)),
    "indexing": (lambda a, i: (a[:, [0, 2]], a[[0, 1], :], a[a > 0], a[[]], a[i, 1:3], a[i, i], a.clone().index_put_((i,), a[i]), a.clone().index_put_((i, i), a[0, i], accumulate=True)), (X, ROWS)),
    "scatter": (lambda a, i: (a.scatter(1, i, a), a.scatter(1, i, 2.0), a.clone().scatter_(1, i, a), a.clone().scatter_(1, i, 2.0), a.scatter_add(1, i, a), a.gather(1, i)), (X, PLACES)),
    "scatter_reduce": (lambda a, i: [f for r in ("sum", "prod", "amax", "amin", "mean") for c in (True, False) for f in (a.scatter_reduce(1, i, a, r, include_self=c), a.clone().scatter_reduce_(1, i, a, r, include_self=c))], (X, PLACES)),
    "xlogy": (lambda a: (torch.xlogy(a, 2.0), torch.xlogy(2.0, a), a.clone().xlogy_(3.0), a.clone().xlogy_(a)), (X.abs() + 0.1,)),
    "pow": (lambda a: (a.clone().pow_(2), a.clone().pow_(a), 2**a), (X.abs() + 0.1,)),
    "atan2": (lambda a: (a.atan2(a + 1), a.clone().atan2_(a + 1)), (X,)),
    "isin": (lambda a: (torch.isin(a, 3), torch.isin(3, a), torch.equal(a, a), torch.gcd(a, a + 3)), (N,)),
    "inverse": (lambda a: torch.inverse(a + 5 * torch.eye(6, device=a.device)), (X,)),
    "repeat_interleave": (lambda a, r: (a.repeat_interleave(r, 0), a.flatten().repeat_interleave(2), torch.repeat_interleave(r), a[0].repeat_interleave(r), a.repeat_interleave(2, 1)), (X, torch.tensor([1, 0, 2, 1, 3, 1]))),
    "searches": (lambda a, b: (torch.bucketize(a, b), torch.searchsorted(b, a), torch.bucketize(a, b, right=True), torch.bincount(a.abs().long().flatten()), torch.histc(a, 4, -1, 1)), (X, torch.tensor([-1.0, 0.0, 1.0]))),
    "pads": (lambda a: [F.pad(a, (1,) * n, mode=m) for n in (2, 4, 6) for m in ("reflect", "replicate") if n // 2 == 3] + [F.pad(a, (1, 2), value=3.0)], (torch.linspace(0, 1, 128).view(1, 2, 4, 4, 4),)),
    "pads of 1 and 2": (lambda a: [F.pad(a, (1,) * n, mode=m) for n in (2, 4) for m in ("reflect", "replicate")], (X.view(1, 6, 6),)),
    "constructors": (lambda a: (torch.linspace(0, 1, 7, device=a.device), torch.logspace(0, 2, 5, device=a.device), torch.range(0, 5, device=a.device), torch.arange(3, 9, 2, device=a.device), torch.eye(3, 4, device=a.device), torch.ones(2, device=a.device), torch.zeros(2, device=a.device), torch.full((2,), 3.0, device=a.device)), (X,)),
    "sorting": (lambda a: (*torch.sort(a, dim=0), *torch.sort(a.flatten(), descending=True), *torch.sort((a > 0).int(), stable=True), torch.argsort(a, 1), *a.topk(3), *a.kthvalue(2), *a.median(1), a.median(), a.unique(), *torch.unique((a * 2).round(), return_inverse=True, return_counts=True), *torch.unique_consecutive((a > 0).long().flatten(), return_inverse=True, return_counts=True)), (X,)),
    "one_hot": (lambda a: F.one_hot(a, 12), (N,)),
    "matrix products": (lambda a, b: (a @ b, a @ b[0], a.mv(b[0]), a[0].dot(b[0]), torch.addmm(a, a, b, beta=0.5, alpha=2), a.clone().addmm_(a, b, beta=0.5), torch.bmm(a[None], b[None]), torch.baddbmm(a[None], a[None], b[None], beta=0.5), torch.addbmm(a, a[None], b[None], alpha=2), torch.addmv(a[0], a, b[0], beta=0.5, alpha=3), torch.addr(a, a[0], b[0], alpha=2), torch.linalg.vecdot(a, b)), (X, X.t().contiguous())),
    "gelu forms": (lambda a: (F.gelu(a, approximate="tanh"), torch.ops.aten.gelu_backward(a, a, approximate="tanh")), (X,)),
    "layer norm": (lambda a: F.layer_norm(a, (6,), a[0], a[1]), (X,)),
    "layer norm's gradients": (gradients(lambda a, w, b: F.layer_norm(a, (6,), w, b)), (X, X[0], X[1])),
    "batch norm": (lambda a: (F.batch_norm(a, a[0], a[1].abs(), a[2], a[3]), F.batch_norm(a, None, None, training=True), F.group_norm(a, 2, a[0], a[1])), (X,)),
    "embedding's gradient": (gradients(lambda w, i: F.embedding(i, w, padding_idx=1)), (X, PLACES)),
    "losses": (lambda a, t: [f(a, a + 0.5, reduction=r) for r in ("none", "mean", "sum") for f in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.kl_div)] + [F.cross_entropy(a, t), F.binary_cross_entropy(a.sigmoid(), a.sigmoid()), F.binary_cross_entropy_with_logits(a, a.sigmoid())], (X, PLACES[:, 0])),
    "gradients of losses": (gradients(lambda a, t: [F.mse_loss(a, a.detach() + 0.5), F.l1_loss(a, a.detach() + 0.5, reduction="sum"), F.smooth_l1_loss(a, a.detach() + 0.3), F.kl_div(a, a.detach().abs()), F.kl_div(a, a.detach(), log_target=True), F.cross_entropy(a, t), F.binary_cross_entropy(a.sigmoid(), a.detach().sigmoid()) ]), (X, PLACES[:, 0])),
    "loss of pictures": (gradients(lambda a, t: F.nll_loss(a, t)), (torch.linspace(-1, 1, 24).view(1, 6, 2, 2), torch.tensor([[[0, 5], [2, 2]]]))),
    "gradients of activations": (gradients(lambda a: [F.silu(a), a.sigmoid(), a.tanh(), F.relu(a), F.threshold(a, 0.5, 3.0), F.leaky_relu(a), F.elu(a), F.hardtanh(a), F.softplus(a), F.glu(a), F.softmax(a, 1), F.log_softmax(a, 1), F.logsigmoid(a)]), (X,)),
    "forward activations": (lambda a: [F.celu(a), F.hardshrink(a), F.softshrink(a), F.threshold(a, 0.5, 3.0), F.logsigmoid(a), F.glu(a), F.softplus(a)], (X,)),
    "convolutions": (gradients(lambda a, w: [F.conv2d(a, w, padding=1), F.conv_transpose2d(a, w.transpose(0, 1))]), (torch.linspace(-1, 1, 50).view(1, 2, 5, 5), torch.linspace(-1, 1, 36).view(2, 2, 3, 3))),
    "pooling": (lambda a: (F.avg_pool2d(a, 2), F.adaptive_avg_pool2d(a, 2), F.avg_pool2d(a, 2, divisor_override=3)), (X.view(1, 1, 6, 6),)),
    "complex": (lambda a: (torch.complex(a, a + 1), torch.polar(a.abs(), a), torch.complex(a, a).angle(), torch.complex(a, a).abs()), (X,)),
    "reductions": (lambda a: (a.sum(), a.nansum(0), a.mean(1), a.prod(), a.prod(1), a.amax(0), a.amin(0), a.max(), a.min(), *a.max(1), *a.min(1), a.argmax(1), a.argmin(0), a.all(), a.any(1), a.logsumexp(1), a.norm(), a.norm(3, 1), a.var(), a.std(1), *torch.var_mean(a, 1), *torch.std_mean(a, 1), a.cumsum(1), a.cumprod(0), *a.cummax(1), *a.cummin(0), *torch.aminmax(a), a.trace(), torch.linalg.vector_norm(a, 1)), (X,)),
    "rounding": (lambda a: (torch.round(a, decimals=1), a.signbit(), a.isfinite(), a.isposinf(), a.isneginf(), torch.isclose(a, a + 1e-9), torch.logaddexp(a, a), torch.logaddexp2(a, a), torch.maximum(a, -a), torch.minimum(a, -a), torch.where(a > 0, a, -a), a.flip(0), a.roll(2), a.repeat(2, 1), torch.stack((a, a)), torch.cat((a, a)), a.bool().logical_not()), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_cases_of_our_own(name: str):
    function, arguments = OWN[name]
    expected = function(*detached(arguments))
    assert_same(function(*on_device(arguments)), expected)


def rotate_half(x: Tensor) -> Tensor:
    """As Hugging Face writes it."""
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def rotate_pairs(x: Tensor) -> Tensor:
    """Neighbours swapped."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def fused(name: str, *options: Any) -> Callable[..., Any]:
    """A custom operator of torch_npu with some trailing arguments."""
    return lambda *tensors: getattr(npu, name)(*tensors, *options)


def rms(x: Tensor, weight: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """RMS norm over the weight's dimensions in fp64, and its rstd."""
    dims = list(range(x.dim() - weight.dim(), x.dim()))
    rstd = (x.double().pow(2).mean(dims, True) + eps).rsqrt()
    return (x.double() * rstd * weight.double()).to(x.dtype), rstd.float()


HEADS = torch.linspace(-1, 1, 480).view(2, 3, 5, 16).sin()
ANGLES = torch.linspace(-3, 3, 80).view(1, 1, 5, 16)
FUSED: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "rms_norm": (fused("npu_rms_norm", 1e-6), rms, (X, X[0])),
    "rms_norm of fp16 with fp32 weight": (fused("npu_rms_norm", 1e-6), rms, (X.half(), X[0])),
    "rms_norm over two dimensions": (fused("npu_rms_norm", 1e-6), rms, (X.view(2, 3, 6), X[:3])),
    "gemma_rms_norm": (fused("npu_gemma_rms_norm", 1e-6), lambda x, w: rms(x, 1 + w), (X, X[0])),
    "add_rms_norm": (fused("npu_add_rms_norm", 1e-6), lambda a, b, w: (*rms(a + b, w), a + b), (X, X + 1, X[0])),
    "rotary_mul": (fused("npu_rotary_mul"), lambda x, c, s: x * c + rotate_half(x) * s, (HEADS, ANGLES.cos(), ANGLES.sin())),
    "rotary_mul of pairs": (fused("npu_rotary_mul", "interleave"), lambda x, c, s: x * c + rotate_pairs(x) * s, (HEADS, ANGLES.cos(), ANGLES.sin())),
    "apply_rotary_pos_emb": (
        lambda q, k, c, s: npu.npu_apply_rotary_pos_emb(q, k, c, s), lambda q, k, c, s: tuple(t * c + rotate_half(t) * s for t in (q, k)),
        (torch.linspace(-1, 1, 640).view(1, 5, 2, 64), torch.linspace(1, 2, 320).view(1, 5, 1, 64), *(f(torch.linspace(0, 3, 320)).view(1, 5, 1, 64) for f in (torch.cos, torch.sin))),
    ),
    "swiglu": (fused("npu_swiglu"), lambda x: F.silu(x[:, :3]) * x[:, 3:], (X,)),
    "swiglu over the first": (fused("npu_swiglu", 0), lambda x: F.silu(x[:3]) * x[3:], (X,)),
    "gelu": (lambda x: npu.npu_gelu(x, approximate="tanh"), lambda x: F.gelu(x, approximate="tanh"), (X,)),
    "fast_gelu": (fused("npu_fast_gelu"), lambda x: x / (1 + torch.exp(-1.702 * x.abs())) * torch.exp(0.851 * (x - x.abs())), (X,)),
    "scatter_nd_update": (fused("npu_scatter_nd_update"), lambda a, i, u: a.index_copy(0, i[:, 0], u), (X, ROWS[:, None], X[:2] * 2)),
    "scatter_nd_update_": (fused("npu_scatter_nd_update_"), lambda a, i, u: a.index_put((i[:, 0], i[:, 1]), u), (X, torch.tensor([[0, 2], [5, 1]]), X[0, :2] * 2)),
    "scatter_update": (
        fused("scatter_update", -2), lambda a, i, u: torch.stack([a[b].index_copy(1, i[b : b + 1], u[b]) for b in range(2)]),
        (torch.zeros(2, 4, 8, 16), torch.tensor([3, 5]), torch.ones(2, 4, 1, 16)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_fused_operators(name: str):
    device, host, arguments = FUSED[name]
    assert_same(device(*on_device(arguments)), host(*detached(arguments)))


def fusion(layout: str, **kwargs: Any) -> Callable[..., Any]:
    """npu_fusion_attention's output."""
    return lambda q, k, v: npu.npu_fusion_attention(q, k, v, 4, layout, scale=0.25, **on_like(kwargs, q))[0]


def sdpa(layout: str, visible: Tensor | None) -> Callable[..., Any]:
    """torch's attention in that layout."""
    into = {
        "BNSD": lambda t: t,
        "BSND": lambda t: t.transpose(1, 2),
        "BSH": lambda t: t.unflatten(2, (-1, 16)).transpose(1, 2),
        "SBH": lambda t: t.unflatten(2, (-1, 16)).permute(1, 2, 0, 3),
    }[layout]
    back = {
        "BNSD": lambda t: t,
        "BSND": lambda t: t.transpose(1, 2),
        "BSH": lambda t: t.transpose(1, 2).flatten(2),
        "SBH": lambda t: t.permute(2, 0, 1, 3).flatten(2),
    }[layout]
    return lambda q, k, v: back(
        F.scaled_dot_product_attention(
            into(q), into(k), into(v), attn_mask=visible, scale=0.25, enable_gqa=True
        )
    )


MASK = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
ROW, COLUMN = torch.arange(6)[:, None], torch.arange(9)[None]
SHOWN = (ROW * 5 + COLUMN * 3) % 4 != 0
LAYOUTS = {
    "BNSD": ((2, 4, 6, 16), (2, 2, 9, 16)),
    "BSND": ((2, 6, 4, 16), (2, 9, 2, 16)),
    "BSH": ((2, 6, 64), (2, 9, 32)),
    "SBH": ((6, 2, 64), (9, 2, 32)),
}
MODES: dict[str, tuple[dict[str, Any], Tensor | None]] = {
    "full": ({}, None),
    "mask": ({"atten_mask": ~SHOWN}, SHOWN),
    "mode 1": ({"atten_mask": ~SHOWN, "sparse_mode": 1}, SHOWN),
    "mode 2": ({"atten_mask": MASK, "sparse_mode": 2}, COLUMN <= ROW),
    "mode 3": ({"atten_mask": MASK, "sparse_mode": 3}, COLUMN <= ROW + 3),
    "mode 4": ({"atten_mask": MASK, "sparse_mode": 4, "pre_tockens": 2, "next_tockens": 1}, (ROW + 1 <= COLUMN) & (COLUMN <= ROW + 4)),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_fusion_attention_and_its_gradients(layout: str, mode: str):
    kwargs, visible = MODES[mode]
    q, k = LAYOUTS[layout]
    arguments = (torch.randn(q), torch.randn(k), torch.randn(k))
    for wrap in (lambda f: f, gradients):
        assert_same(
            wrap(fusion(layout, **kwargs))(*on_device(arguments)),
            wrap(sdpa(layout, visible))(*detached(arguments)),
        )


@pytest.mark.parametrize("mode", [0, 2, 3])
def test_fusion_attention_of_packed_sequences(mode: int):
    q_ends, kv_ends = [4, 4, 10], [6, 6, 14]
    arguments = (torch.randn(10, 4, 16), torch.randn(14, 2, 16), torch.randn(14, 2, 16))
    mask = {"atten_mask": MASK, "sparse_mode": mode} if mode else {}

    def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = []
        for (a, b), (c, d) in (((0, 4), (0, 6)), ((4, 10), (6, 14))):
            rows, columns = torch.arange(b - a)[:, None], torch.arange(d - c)[None]
            seen = columns <= rows + (d - c - b + a if mode == 3 else 0)
            one = [
                t[s].transpose(0, 1)[None] for t, s in ((q, slice(a, b)), (k, slice(c, d)), (v, slice(c, d)))
            ]
            parts.append(
                F.scaled_dot_product_attention(
                    *one, attn_mask=seen if mode else None, scale=0.25, enable_gqa=True
                )[0].transpose(0, 1)
            )
        return torch.cat(parts)

    device = fusion("TND", actual_seq_qlen=q_ends, actual_seq_kvlen=kv_ends, **mask)
    for wrap in (lambda f: f, gradients):
        assert_same(wrap(device)(*on_device(arguments)), wrap(reference)(*detached(arguments)))


def test_version_3_takes_its_lengths_as_tensors():
    """npu_fusion_attention_v3, the one behind torch's own attention."""
    q, k = torch.randn(5, 4, 16), torch.randn(5, 2, 16)
    mask = dict(atten_mask=MASK.npu(), sparse_mode=3, scale=0.25)
    ends = dict(actual_seq_qlen=[2, 5], actual_seq_kvlen=[2, 5])
    by_list = npu.npu_fusion_attention(q.npu(), k.npu(), k.npu(), 4, "TND", **mask, **ends)[0]
    tensors = {name: torch.tensor(value) for name, value in ends.items()}
    by_tensor = npu.npu_fusion_attention_v3(q.npu(), k.npu(), k.npu(), 4, "TND", **mask, **tensors)[0]
    assert torch.equal(by_list.cpu(), by_tensor.cpu())
    with pytest.raises(RuntimeError, match="2048x2048"):
        npu.npu_fusion_attention_v3(
            q.npu(), k.npu(), k.npu(), 4, "TND", atten_mask=MASK[:5, :5].npu(), sparse_mode=3, **tensors
        )


def test_statistics_of_packed_sequences_lie_head_by_head():
    """softmax_max and softmax_sum have the shape [T, N, 8] and the order [N, T, 8], as the documents say."""
    q = torch.randn(5, 2, 16)
    _, maxima, totals, *_ = npu.npu_fusion_attention(
        *[q.npu()] * 3, 2, "TND", scale=0.25, actual_seq_qlen=[2, 5], actual_seq_kvlen=[2, 5]
    )
    lse = (maxima + totals.log()).cpu().view(2, 5, 8)[..., 0]
    scores = torch.einsum("ind,jnd->nij", q, q) * 0.25
    expected = torch.cat((scores[:, :2, :2].logsumexp(-1), scores[:, 2:, 2:].logsumexp(-1)), 1)
    torch.testing.assert_close(lse, expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_fused_operators():
    pairs = [
        (lambda x, w: npu.npu_rms_norm(x, w, 1e-6)[0], lambda x, w: rms(x, w)[0], (X, X[0])),
        (fused("npu_swiglu"), lambda x: F.silu(x[:, :3]) * x[:, 3:], (X,)),
        (
            fused("npu_rotary_mul"),
            lambda x, c, s: x * c + rotate_half(x) * s,
            (HEADS, ANGLES.cos(), ANGLES.sin()),
        ),
        (
            fused("npu_rotary_mul", "interleave"),
            lambda x, c, s: x * c + rotate_pairs(x) * s,
            (HEADS, ANGLES.cos(), ANGLES.sin()),
        ),
        (lambda x: npu.npu_gelu(x, approximate="tanh"), lambda x: F.gelu(x, approximate="tanh"), (X,)),
    ]
    for device, host, arguments in pairs:
        assert_same(gradients(device)(*on_device(arguments)), gradients(host)(*detached(arguments)))


def test_gelu_is_the_tanh_form():
    assert_same(F.gelu(X.npu()), F.gelu(X, approximate="tanh"))
    assert_same(gradients(F.gelu)(X.npu()), gradients(lambda t: F.gelu(t, approximate="tanh"))(X.clone()))


@pytest.mark.parametrize("mode", ["Norm", None, "PA_NZ"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int8])
def test_cache_writes(mode: str | None, dtype: torch.dtype):
    tokens, heads, sizes, blocks, block_size = 5, 2, (32, 64), 3, 16
    slots = torch.tensor([47, 0, 17, 5, 30])
    last = 32 if dtype == torch.int8 else 16
    news = [(100 * torch.randn(tokens, heads, size)).to(dtype) for size in sizes]

    def shape(size):
        return (
            (blocks, heads * size // last, block_size, last)
            if mode == "PA_NZ"
            else (blocks, block_size, heads, size)
        )

    caches = [(100 * torch.randn(shape(size))).to(dtype) for size in sizes]
    on = [c.npu() for c in caches]
    npu.npu_scatter_pa_kv_cache(*to_npu(news), *on, slots.npu(), cache_mode=mode)
    for new, cache, got in zip(news, caches, on, strict=True):
        for t, slot in enumerate(slots.tolist()):
            for h in range(heads):
                for d in range(new.shape[2]):
                    at = h * new.shape[2] + d
                    place = (
                        (slot // block_size, at // last, slot % block_size, at % last)
                        if mode == "PA_NZ"
                        else (slot // block_size, slot % block_size, h, d)
                    )
                    cache[place] = new[t, h, d]
        assert torch.equal(got.cpu(), cache)


# ---- random numbers, optimisers --------------------------------------------------------------------------------------
COUNT = 50_000
DRAWS: dict[str, tuple[Callable[[], Tensor], float, float]] = {  # with mean and standard deviation
    "rand": (lambda: torch.rand(COUNT, device="npu"), 0.5, 12**-0.5),
    "randn": (lambda: torch.randn(COUNT, device="npu"), 0, 1),
    "uniform_": (lambda: torch.empty(COUNT, device="npu").uniform_(2, 5), 3.5, 3 * 12**-0.5),
    "normal_": (lambda: torch.empty(COUNT, device="npu").normal_(3, 2), 3, 2),
    "normal of numbers": (lambda: torch.normal(3.0, 2.0, (COUNT,), device="npu"), 3, 2),
    "normal of a mean": (lambda: torch.normal(torch.full((COUNT,), 3.0, device="npu"), 2.0), 3, 2),
    "normal of a deviation": (lambda: torch.normal(3.0, torch.full((COUNT,), 2.0, device="npu")), 3, 2),
    "normal of both": (lambda: torch.normal(torch.full((COUNT,), 3.0, device="npu"), torch.full((COUNT,), 2.0, device="npu")), 3, 2),
    "bernoulli_": (lambda: torch.empty(COUNT, device="npu").bernoulli_(0.3), 0.3, 0.21**0.5),
    "bernoulli": (lambda: torch.bernoulli(torch.full((COUNT,), 0.3, device="npu")), 0.3, 0.21**0.5),
    "randint": (lambda: torch.randint(2, 9, (COUNT,), device="npu"), 5, 2),
    "multinomial": (lambda: torch.multinomial(torch.tensor([0.2, 0.3, 0.5], device="npu"), COUNT, True), 1.3, 0.61**0.5),
    "dropout": (lambda: F.dropout(torch.ones(COUNT, device="npu"), 0.25), 1, 3**-0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_draws_have_their_distribution(name: str):
    draw, mean, deviation = DRAWS[name]
    torch.npu.manual_seed(3)
    drawn = draw().float().cpu()
    assert abs(drawn.mean() - mean) < 0.03 * max(1, abs(mean))
    assert abs(drawn.std() - deviation) < 0.03 * max(1, deviation)
    assert not torch.equal(draw().float().cpu(), drawn), "the next draw is another"


def test_permutations():
    assert torch.equal(torch.randperm(1000, device="npu").cpu().sort()[0], torch.arange(1000))


def test_generator_state_comes_back():
    torch.npu.manual_seed(5)
    first, state = torch.rand(4, device="npu"), torch.npu.get_rng_state()
    second = torch.rand(4, device="npu")
    torch.npu.set_rng_state(state)
    assert torch.equal(torch.rand(4, device="npu"), second)
    assert not torch.equal(first, second)


def test_dropout_has_one_mask_for_both_directions():
    x = torch.ones(64, device="npu", requires_grad=True)
    y = F.dropout(x, 0.5)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], y)
    q, k, v = (torch.randn(2, 4, 33, 32, device="npu", requires_grad=True) for _ in range(3))
    out = npu.npu_fusion_attention(q, k, v, 4, "BNSD", scale=0.2, keep_prob=0.7)[0]
    weight = torch.randn_like(out)
    grad = torch.autograd.grad((out * weight).sum(), v)[0]
    torch.testing.assert_close((v * grad).sum(), (out * weight).sum(), rtol=1e-3, atol=1e-3)  # linear in v


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2),
    "AdamW fused": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    "AdamW amsgrad": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True, fused=True),
    "AdamW maximize": lambda p: torch.optim.AdamW(p, 1e-2, maximize=True, fused=True),
    **{kind.__name__: lambda p, kind=kind: kind(p, 1e-2) for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam)},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_step_as_on_the_cpu(name: str):
    host = nn.Linear(5, 5)
    device = nn.Linear(5, 5).npu()
    device.load_state_dict(host.state_dict())
    for model in (host, device):
        optimizer = OPTIMIZERS[name](model.parameters())
        for step in range(4):
            optimizer.zero_grad()
            model(X[:5, :5].to(model.weight.device) + step).pow(2).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    torch.testing.assert_close(device.weight.cpu(), host.weight, rtol=1e-5, atol=1e-6)


def test_a_gradient_scaler_skips_infinite_steps():
    layer = nn.Linear(4, 4).npu()
    optimizer, scaler = (
        torch.optim.SGD(layer.parameters(), 0.1),
        torch.amp.GradScaler("npu", init_scale=256.0, growth_interval=1),
    )
    before = layer.weight.detach().clone()
    for fill, scale in ((float("inf"), 128.0), (1.0, 256.0)):
        optimizer.zero_grad()
        scaler.scale(layer(torch.full((1, 4), fill).npu()).sum()).backward()
        assert torch.equal(layer.weight, before)
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == scale
    assert not torch.equal(layer.weight, before)


def test_every_operator_ran(request: pytest.FixtureRequest):
    """No entry of the table is there untested.

    npu_fused_infer_attention_score and what quantises have modules of their own (test_attention, test_quantised).
    """
    if request.session.testscollected < 100:
        pytest.skip("needs the whole module")
    elsewhere = {"aclnnFusedInferAttentionScoreV3", "aclnnFusedInferAttentionScoreV4"}
    elsewhere |= {*quantise.OPERATORS, *quant_products.OPERATORS}
    assert sorted(set(emulated_npu.operators()) - RAN - elsewhere) == []
