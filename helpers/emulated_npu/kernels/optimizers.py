"""Optimisers: operators over lists of tensors, fused AdamW, and loss scaling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.emulated_npu.operators import Function, Operators, store

OPERATORS = Operators()
op = OPERATORS.op


def _foreach(name: str, signature: str, function: Function) -> None:
    """Enter an operator that computes the i-th output from the i-th members of its lists."""

    def run(*args: Any) -> None:
        *inputs, outs = args
        for i, out in enumerate(outs):
            store(out, function(*[x[i] if isinstance(x, list) else x for x in inputs]))

    op("Foreach" + name, signature)(run)


def _valued(function: Function, keyword: str) -> Function:
    """Return `function` with its last argument under a keyword."""
    return lambda *args: function(*args[:-1], **{keyword: args[-1]})


_WITH_SCALAR: dict[str, Function] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
    "Maximum": torch.clamp_min,
    "Minimum": torch.clamp_max,
}
for _name, _function in _WITH_SCALAR.items():
    _foreach(_name + "ScalarV2", "LSL", _function)
    _foreach(_name + "ScalarList", "LXL", _function)
_WITH_LIST: dict[str, Function] = {
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
}
for _name, _function in _WITH_LIST.items():
    _foreach(_name + "List", "LLL", _function)
_foreach("AddListV2", "LLSL", _valued(torch.add, "alpha"))
_foreach("SubListV2", "LLSL", _valued(torch.sub, "alpha"))
for _name in "Abs Neg Sqrt Exp Reciprocal Sigmoid Tanh Log Sign Cos Sin".split():
    _foreach(_name, "LL", getattr(torch, _name.lower()))
_foreach("AddcmulScalarV2", "LLLSL", _valued(torch.addcmul, "value"))
_foreach("AddcdivScalarV2", "LLLSL", _valued(torch.addcdiv, "value"))
_foreach("LerpList", "LLLL", torch.lerp)
_foreach("LerpScalar", "LLSL", torch.lerp)
_foreach("Norm", "LSL", torch.linalg.vector_norm)
_foreach("Copy", "LL", lambda a: a)
op("ForeachZeroInplace", "L")(lambda tensors: [t.zero_() for t in tensors])


@op("ForeachNonFiniteCheckAndUnscale", "LTT")
def _unscale(grads: Sequence[Tensor], found_inf: Tensor, inverse_scale: Tensor) -> None:
    """Multiply gradients by a scale's inverse, and note whether one of them is not finite."""
    for grad in grads:
        if not torch.isfinite(grad).all():
            found_inf.fill_(1)
        grad.mul_(inverse_scale.item())


@op("AmpUpdateScale", "TTTddiTT")
def _update_scale(
    scale: Tensor,
    tracker: Tensor,
    found_inf: Tensor,
    growth: float,
    backoff: float,
    interval: int,
    scale_out: Tensor,
    tracker_out: Tensor,
) -> None:
    """Let a loss scale grow after `interval` finite steps, or shrink after one that was not."""
    torch.ops.aten._amp_update_scale_(scale_out, tracker_out, found_inf, growth, backoff, interval)


@op("ApplyAdamWV2", "TTTTTTfffffbb")
def _adamw(
    param: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    max_avg_sq: Tensor,
    grad: Tensor,
    steps_before: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    amsgrad: bool,
    maximize: bool,
) -> None:
    """Do one step of AdamW (arXiv:1711.05101); torch_npu passes the count of the steps before this one."""
    step = steps_before.item() + 1
    grad = -grad if maximize else grad
    param.mul_(1 - lr * weight_decay)
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    second = max_avg_sq.copy_(torch.maximum(max_avg_sq, exp_avg_sq)) if amsgrad else exp_avg_sq
    denominator = second.sqrt() / math.sqrt(1 - beta2**step) + eps
    param.addcdiv_(exp_avg, denominator, value=-lr / (1 - beta1**step))
