"""Activations, losses and normalisations of ordinary networks, with their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()
op, result, results = OPERATORS.op, OPERATORS.result, OPERATORS.results
aten = torch.ops.aten
_REDUCTION = ("none", "mean", "sum")

# ---- activations -----------------------------------------------------------------------------------------------------
result("Softmax", "TiT", torch.softmax)
result("LogSoftmax", "TiT", torch.log_softmax)
result(
    "SoftmaxBackward",
    "TTiT",
    lambda g, y, dim: (g.float() - (g.float() * y.float()).sum(dim, True)) * y.float(),
)
result("LogSoftmaxBackward", "TTiT", lambda g, y, dim: g.float() - y.float().exp() * g.float().sum(dim, True))
result("Gelu", "TT", lambda a: F.gelu(a, approximate="tanh"))  # CANN documents aclnnGelu as the tanh form
result("GeluV2", "TiT", lambda a, mode: F.gelu(a, approximate={0: "none", 1: "tanh"}[mode]))
result("GeluBackward", "TTT", lambda g, a: aten.gelu_backward(g, a, approximate="tanh"))
result("GeluBackwardV2", "TTsT", lambda g, a, mode: aten.gelu_backward(g, a, approximate=mode.decode()))


@op("FastGelu", "TT")
def _fast_gelu(a: Tensor, out: Tensor) -> None:
    """Return `x / (1 + exp(-1.702 |x|)) * exp(0.851 (x - |x|))`."""
    x = a.float()
    store(out, x / (1 + torch.exp(-1.702 * x.abs())) * torch.exp(0.851 * (x - x.abs())))


op("LogSigmoidForward", "TTT")(lambda a, out, buffer: store(out, F.logsigmoid(a)))
result("LogSigmoidBackward", "TTTT", lambda g, a, buffer: g * torch.sigmoid(-a))
result("SiluBackward", "TTT", aten.silu_backward)
result("SigmoidBackward", "TTT", aten.sigmoid_backward)
result("TanhBackward", "TTT", aten.tanh_backward)
result("ThresholdBackward", "TTST", aten.threshold_backward)
result("Threshold", "TSST", F.threshold)
result("LeakyRelu", "TST", F.leaky_relu)
result("LeakyReluBackward", "TTSbT", aten.leaky_relu_backward)
result("Elu", "TSSST", aten.elu)
result("EluBackward", "TSSSbTT", aten.elu_backward)
result("Hardtanh", "TSST", F.hardtanh)
result("HardtanhBackward", "TTSST", aten.hardtanh_backward)
result("Softplus", "TSST", F.softplus)
result("SoftplusBackward", "TTSST", aten.softplus_backward)
result("Celu", "TST", F.celu)
result("Glu", "TiT", F.glu)
result("GluBackward", "TTiT", aten.glu_backward)
result("Hardshrink", "TST", F.hardshrink)
result("Softshrink", "TST", F.softshrink)

# ---- losses ----------------------------------------------------------------------------------------------------------
result("MseLoss", "TTiT", aten.mse_loss)
result("MseLossBackward", "TTTiT", aten.mse_loss_backward)
result("L1Loss", "TTiT", lambda a, b, how: F.l1_loss(a, b, reduction=_REDUCTION[how]))
result("L1LossBackward", "TTTiT", lambda g, a, b, how: g * torch.sign(a - b) / (a.numel() if how == 1 else 1))
result("SmoothL1Loss", "TTifT", aten.smooth_l1_loss)
result("SmoothL1LossBackward", "TTTifT", aten.smooth_l1_loss_backward)
result("BinaryCrossEntropy", "TTTiT", aten.binary_cross_entropy)
result("BinaryCrossEntropyBackward", "TTTTiT", aten.binary_cross_entropy_backward)
result("BinaryCrossEntropyWithLogits", "TTTTiT", aten.binary_cross_entropy_with_logits)
result(
    "KlDiv", "TTibT", lambda a, b, how, is_log: F.kl_div(a, b, reduction=_REDUCTION[how], log_target=is_log)
)


@op("KlDivBackward", "TTTibT")
def _kl_div_backward(grad: Tensor, a: Tensor, target: Tensor, how: int, is_log: bool, out: Tensor) -> None:
    """Return the gradient of the Kullback-Leibler loss in its input."""
    store(out, -grad * (target.exp() if is_log else target) / (a.numel() if how == 1 else 1))


def _nll(a: Tensor, target: Tensor, weight: Tensor | None, how: int, ignored: int) -> tuple[Tensor, Tensor]:
    """Return loss and total weight, of rows or of pictures."""
    forward = aten.nll_loss2d_forward if a.dim() == 4 else aten.nll_loss_forward
    loss, total = forward(a, target, weight, how, ignored)
    return loss, total


@op("NLLLossBackward NLLLoss2dBackward", "TTTTiiTT")
def _nll_backward(
    grad: Tensor,
    a: Tensor,
    target: Tensor,
    weight: Tensor | None,
    how: int,
    ignored: int,
    total: Tensor,
    out: Tensor,
) -> None:
    """Return the gradient of the negative log likelihood in its input."""
    backward = aten.nll_loss2d_backward if a.dim() == 4 else aten.nll_loss_backward
    store(out, backward(grad, a, target, weight, how, ignored, total))


results("NLLLoss NLLLoss2d", "TTTiiTT", 2, _nll)

# ---- normalisations and pooling --------------------------------------------------------------------------------------
results("LayerNorm", "TATTdTTT", 3, aten.native_layer_norm)


@op("LayerNormBackward", "TTATTTTBTTT")
def _layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    wanted: Sequence[bool],
    *outs: Tensor,
) -> None:
    """Return the gradients of a layer norm that its mask asks for."""
    grad, x, mean, rstd = (t.float() for t in (grad, x, mean, rstd))
    weight, bias = (None if t is None else t.float() for t in (weight, bias))
    values = aten.native_layer_norm_backward(grad, x, shape, mean, rstd, weight, bias, wanted)
    for want, out, value in zip(wanted, outs, values, strict=True):
        if want:
            store(out, value)


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return result, mean and inverse deviation; outside training torch gives no statistics, the op plugin
    expects some.
    """
    y, mean, invstd = aten.native_batch_norm(
        x, weight, bias, running_mean, running_var, training, momentum, eps
    )
    return (y, mean, invstd) if training else (y, running_mean, torch.rsqrt(running_var + eps))


results("BatchNorm", "TTTTTbddTTT", 3, _batch_norm)
results("GroupNorm", "TTTiiiidTTT", 3, aten.native_group_norm)
result("AdaptiveAvgPool2d", "TAT", F.adaptive_avg_pool2d)


@op("AvgPool2d", "TAAAbbiyT")
def _avg_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,
    include: bool,
    divisor: int,
    _: int,
    out: Tensor,
) -> None:
    """Return torch's average pooling; a divisor of 0 stands for none."""
    store(out, aten.avg_pool2d(x, kernel, stride, padding, ceil, include, divisor or None))
