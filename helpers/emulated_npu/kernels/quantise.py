"""Numbers made int8 or int4 on the way, one scale for each token: npu_dynamic_quant, and what fuses it with others.

Constraints are those of the operators' pages in op-plugin (docs/zh/custom_APIs) for Atlas A2 and A3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.emulated_npu.errors import emulated, require
from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()
op = OPERATORS.op
_HALVES = (torch.float16, torch.bfloat16)
_MOST = {torch.int8: 127, torch.int32: 7}  # int32 holds eight numbers of 4 bits
_STATIC, _DYNAMIC = b"static", b"dynamic"


def pack_int4(numbers: Tensor) -> Tensor:
    """Return whole numbers -8 to 7, eight neighbours of the last dimension in an int32, lowest bits first."""
    digits = (numbers.to(torch.int32) & 15).reshape(*numbers.shape[:-1], -1, 8)
    words: Tensor = (digits << torch.arange(0, 32, 4, dtype=torch.int32)).sum(-1)
    return words.to(torch.int32)


def unpack_int4(packed: Tensor) -> Tensor:
    """Return what `pack_int4` packed, int32, eight times as many numbers in the last dimension."""
    digits = (packed.unsqueeze(-1) >> torch.arange(0, 32, 4, dtype=torch.int32)) & 15
    return (digits - 16 * (digits > 7).int()).flatten(-2)


def to_int8(numbers: Tensor) -> Tensor:
    """Return numbers rounded (ties to even) and clamped to int8."""
    return numbers.round().clamp(-128, 127).to(torch.int8)


def _store_dynamic(x: Tensor, smooth: Tensor | None, y: Tensor, scale: Tensor) -> None:
    """Write `round(x * smooth / scale)`, and the scale: each token's largest number / 127 (int4: / 7)."""
    wide = x.float() if smooth is None else x.float() * smooth.float()
    factor = wide.abs().amax(-1) / _MOST[y.dtype]
    codes = (wide / factor.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)).round()
    store(scale, factor)
    store(y, pack_int4(codes) if y.dtype == torch.int32 else codes.to(torch.int8))


def _check_dynamic_quant(
    x: Tensor, smooth: Tensor | None, group: Tensor | None, dtype: int, y: Tensor, *_: object
) -> None:
    """Check npu_dynamic_quant for dense models: 16 bits, more than one dimension, one vector of smooth scales."""
    name = "npu_dynamic_quant"
    emulated(group is None, f"{name} with group_index (MoE)")
    emulated(y.dtype in _MOST, f"{name} with dst_type {dtype}")
    require(x.dtype in _HALVES, f"{name}: x is float16 or bfloat16", x.dtype)
    require(x.dim() > 1, f"{name}: x has more than one dimension", tuple(x.shape))
    if y.dtype == torch.int32:
        require(x.shape[-1] % 8 == 0, f"{name}: int4 needs a last size that is a multiple of 8", x.shape[-1])
    if smooth is not None:
        require(smooth.dtype in _HALVES, f"{name}: smooth_scales is float16 or bfloat16", smooth.dtype)
        rule = f"{name}: smooth_scales has one element for each of x's last size, {x.shape[-1]}"
        require(tuple(smooth.shape) == (x.shape[-1],), rule, tuple(smooth.shape))


@op("DynamicQuantV2", "TTTITTT", check=_check_dynamic_quant)
def _npu_dynamic_quant(
    x: Tensor,
    smooth: Tensor | None,
    group: Tensor | None,
    dtype: int,
    y: Tensor,
    scale: Tensor,
    offset: Tensor | None,
) -> None:
    """Compute npu_dynamic_quant, symmetric."""
    emulated(offset is None, "npu_dynamic_quant_asymmetric")
    _store_dynamic(x, smooth, y, scale)


def _check_add_rms_norm(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    smooth1: Tensor | None,
    smooth2: Tensor | None,
    beta: Tensor | None,
    epsilon: float,
    mask: list[bool] | None,
    y1: Tensor,
    *_: object,
) -> None:
    """Check npu_add_rms_norm_dynamic_quant: one 16-bit type, vectors of x's last size, a mask that fits."""
    name = "npu_add_rms_norm_dynamic_quant"
    require(x1.dtype in _HALVES, f"{name}: x1 is float16 or bfloat16", x1.dtype)
    require(2 <= x1.dim() <= 8, f"{name}: x1 has 2 to 8 dimensions", tuple(x1.shape))
    both = (tuple(x1.shape), tuple(x2.shape))
    require(both[0] == both[1], f"{name}: x1 and x2 have one shape", both)
    require(x1.numel() > 0, f"{name}: x1 is not empty", tuple(x1.shape))
    others = {"x2": x2, "gamma": gamma, "smooth_scale1": smooth1, "smooth_scale2": smooth2, "beta": beta}
    for label, tensor in others.items():
        if tensor is None:
            continue
        require(tensor.dtype == x1.dtype, f"{name}: {label} has x1's dtype, {x1.dtype}", tensor.dtype)
        fits = label == "x2" or tuple(tensor.shape) == (x1.shape[-1],)
        require(fits, f"{name}: {label} is a vector of x1's last size, {x1.shape[-1]}", tuple(tensor.shape))
    if mask:
        for flag, smooth, label in zip(mask, (smooth1, smooth2), "12", strict=True):
            require(flag or smooth is None, f"{name}: smooth_scale{label} needs output {label}", mask)
        require(any(mask), f"{name}: output_mask asks for one output at least", mask)


@op("AddRmsNormDynamicQuantV2", "TTTTTTdBTTTTT", check=_check_add_rms_norm)
def _npu_add_rms_norm_dynamic_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    smooth1: Tensor | None,
    smooth2: Tensor | None,
    beta: Tensor | None,
    epsilon: float,
    mask: list[bool] | None,
    y1: Tensor,
    y2: Tensor,
    x: Tensor,
    scale1: Tensor,
    scale2: Tensor,
) -> None:
    """Compute npu_add_rms_norm_dynamic_quant: the sum as rounded to its dtype, its norm, and the norm in 8 bits."""
    total = (x1.float() + x2.float()).to(x1.dtype)
    store(x, total)
    wide = total.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, True) + epsilon) * gamma.float()
    if beta is not None:
        normed = normed + beta.float()
    wanted = mask or [True, smooth1 is not None and smooth2 is not None]
    for want, smooth, y, scale in zip(wanted, (smooth1, smooth2), (y1, y2), (scale1, scale2), strict=True):
        if want:
            _store_dynamic(normed, smooth, y, scale)


def _check_swiglu_quant(
    x: Tensor,
    smooth: Tensor | None,
    offsets: Tensor | None,
    group: Tensor | None,
    left: bool,
    mode: bytes,
    list_type: int,
    dtype: int,
    y: Tensor,
    scale: Tensor,
) -> None:
    """Check npu_swiglu_quant for dense models: dtypes, an even last size of at most 8192, fp32 smooth scales."""
    name = "npu_swiglu_quant"
    emulated(group is None, f"{name} with group_index (MoE)")
    emulated(y.shape[-1] * 2 == x.shape[-1], f"{name} with int4")
    require(x.dtype in (*_HALVES, torch.float32), f"{name}: x is float16, bfloat16 or float32", x.dtype)
    require(x.dim() > 1, f"{name}: x has more than one dimension", tuple(x.shape))
    even = x.shape[-1] % 2 == 0 and x.shape[-1] <= 8192
    require(even, f"{name}: x's last size is even and at most 8192", x.shape[-1])
    require(mode in (_STATIC, _DYNAMIC), f"{name}: quant_mode is 0 or 1", mode)
    for label, tensor in (("smooth_scales", smooth), ("offsets", offsets)):
        if tensor is not None:
            require(tensor.dtype == torch.float32, f"{name}: {label} is float32", tensor.dtype)
            allowed = {(1, x.shape[-1] // 2), (1,)}
            rule = f"{name}: {label} is [1, {x.shape[-1] // 2}] or [1] without groups"
            require(tuple(tensor.shape) in allowed, rule, tuple(tensor.shape))
    if mode == _STATIC:
        require(smooth is not None, f"{name}: static quantisation (quant_mode 0) needs smooth_scales", None)


@op("SwiGluQuantV2", "TTTTbsiITT", check=_check_swiglu_quant)
def _npu_swiglu_quant(
    x: Tensor,
    smooth: Tensor | None,
    offsets: Tensor | None,
    group: Tensor | None,
    left: bool,
    mode: bytes,
    list_type: int,
    dtype: int,
    y: Tensor,
    scale: Tensor,
) -> None:
    """Compute npu_swiglu_quant; `left` says which half goes through silu, and is False unless given."""
    _store_quantised(_swiglu(x.float(), left), smooth, offsets, mode, y, scale)


def _swiglu(x: Tensor, left: bool) -> Tensor:
    """Return the product of one half with silu of the other: the left one where `left`."""
    first, second = x.chunk(2, -1)
    return F.silu(first) * second if left else first * F.silu(second)


def _store_quantised(
    x: Tensor, smooth: Tensor | None, offset: Tensor | None, mode: bytes, y: Tensor, scale: Tensor
) -> None:
    """Write x in 8 bits: with each token's own scale, or times fixed scales plus offsets."""
    if mode == _DYNAMIC:
        _store_dynamic(x, smooth, y, scale)
        return
    fixed = x if smooth is None else x * smooth.float()
    store(y, to_int8(fixed if offset is None else fixed + offset.float()))


def _check_dequant_swiglu(
    x: Tensor,
    weight_scale: Tensor | None,
    activation_scale: Tensor | None,
    bias: Tensor | None,
    quant_scale: Tensor | None,
    quant_offset: Tensor | None,
    group: Tensor | None,
    left: bool,
    mode: bytes,
    dtype: int,
    rounding: bytes,
    axis: int,
    swiglu_mode: int,
    *_: object,
) -> None:
    """Check npu_dequant_swiglu_quant for dense models: [tokens, 2H], scales in fp32, those of int32 present."""
    name = "npu_dequant_swiglu_quant"
    emulated(group is None, f"{name} with group_index (MoE)")
    emulated(swiglu_mode == 0, f"{name} with swiglu_mode {swiglu_mode}")
    emulated(axis in (-1, 1), f"{name} with activate_dim {axis}")
    require(x.dtype in (torch.int32, *_HALVES), f"{name}: x is int32, float16 or bfloat16", x.dtype)
    require(x.dim() == 2 and x.shape[-1] % 2 == 0, f"{name}: x is [tokens, 2H]", tuple(x.shape))
    require(mode in (_STATIC, _DYNAMIC), f"{name}: quant_mode is 0 or 1", mode)
    tokens, width = x.shape
    shapes = {
        "weight_scale": (weight_scale, (1, width), (torch.float32,)),
        "activation_scale": (activation_scale, (tokens, 1), (torch.float32,)),
        "quant_scale": (quant_scale, (1, width // 2), (torch.float32, *_HALVES)),
    }
    for label, (tensor, shape, dtypes) in shapes.items():
        if tensor is not None:
            require(tuple(tensor.shape) == shape, f"{name}: {label} is {list(shape)}", tuple(tensor.shape))
            require(tensor.dtype in dtypes, f"{name}: {label} is one of {dtypes}", tensor.dtype)
    if x.dtype == torch.int32:
        require(activation_scale is not None, f"{name}: int32 needs activation_scale", None)
    else:
        rule = f"{name}: activation_scale and bias are for int32"
        require(activation_scale is None and bias is None, rule, x.dtype)
    if bias is not None:
        require(bias.dtype == torch.int32, f"{name}: bias is int32", bias.dtype)
    if mode == _STATIC:
        fits = quant_scale is not None and quant_scale.dtype == torch.float32
        require(fits, f"{name}: static quantisation (quant_mode 0) needs a float32 quant_scale", quant_scale)


@op("DequantSwigluQuantV2", "TTTTTTTbsIsiidddTT", check=_check_dequant_swiglu)
def _npu_dequant_swiglu_quant(
    x: Tensor,
    weight_scale: Tensor | None,
    activation_scale: Tensor | None,
    bias: Tensor | None,
    quant_scale: Tensor | None,
    quant_offset: Tensor | None,
    group: Tensor | None,
    left: bool,
    mode: bytes,
    *rest: object,
) -> None:
    """Compute npu_dequant_swiglu_quant: the numbers behind a product's int32 sums, their SwiGLU, and that in 8 bits."""
    y, scale = rest[-2:]
    wide = x.float() if bias is None else (x + bias).float()
    for factor in (weight_scale, activation_scale):
        wide = wide if factor is None else wide * factor
    _store_quantised(_swiglu(wide, left), quant_scale, quant_offset, mode, y, scale)  # type: ignore[arg-type]
