"""Matrix products with quantised numbers: npu_quant_matmul (both sides) and npu_weight_quant_batchmatmul (weights).

Constraints are those of the operators' pages in op-plugin (docs/zh/custom_APIs) for Atlas A2 and A3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.emulated_npu.errors import emulated, require
from helpers.emulated_npu.kernels.quantise import to_int8, unpack_int4
from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()
op = OPERATORS.op
_HALVES = (torch.float16, torch.bfloat16)
_LARGEST = 65535
_OFFSET_AT, _HAS_OFFSET = 37, 1 << 46  # where npu_trans_quant_param keeps an offset of 9 bits
_PRODUCT, _WEIGHT = "npu_quant_matmul", "npu_weight_quant_batchmatmul"


@op("TransQuantParamV3", "TTiT")
def _npu_trans_quant_param(scale: Tensor, offset: Tensor | None, round_mode: int, out: Tensor) -> None:
    """Compute npu_trans_quant_param: the bits of an fp32 scale, and of a rounded offset, in one int64.

    A real NPU keeps fewer bits of the scale; here all 32 are kept.
    """
    bits = scale.float().contiguous().view(torch.int32).long() & 0xFFFFFFFF
    if offset is not None:
        bits = bits | ((offset.round().clamp(-256, 255).long() & 0x1FF) << _OFFSET_AT) | _HAS_OFFSET
    store(out, bits.expand(out.shape))


def _scale_and_offset(scale: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return a product's scale and offset in fp64, out of one int64 where they came so."""
    if scale.dtype != torch.int64:
        return scale.double(), None if offset is None else offset.double()
    numbers = (scale & 0xFFFFFFFF).to(torch.int32).view(torch.float32).double()
    packed = (scale >> _OFFSET_AT) & 0x1FF
    return numbers, torch.where(scale & _HAS_OFFSET != 0, packed - 512 * (packed > 255).long(), 0).double()


def _check_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    pertoken: Tensor | None,
    scale: Tensor,
    y_scale: Tensor | None,
    x1_offset: Tensor | None,
    offset: Tensor | None,
    y_offset: Tensor | None,
    bias: Tensor | None,
    transpose1: bool,
    transpose2: bool,
    group: int,
    out: Tensor,
) -> None:
    """Check npu_quant_matmul: sizes first, then the table of allowed types."""
    emulated(y_scale is None and group == 0, f"{_PRODUCT} with y_scale or group_sizes")
    types = (x1.dtype, x2.dtype)
    rule = f"{_PRODUCT}: x1 and x2 are both int8, or both int32 with eight int4 each"
    require(types in ((torch.int8,) * 2, (torch.int32,) * 2), rule, types)
    shapes = (tuple(x1.shape), tuple(x2.shape))
    require(
        2 <= x1.dim() <= 6 and 2 <= x2.dim() <= 6, f"{_PRODUCT}: x1 and x2 have 2 to 6 dimensions", shapes
    )
    require(x1.numel() > 0 and x2.numel() > 0, f"{_PRODUCT}: x1 and x2 are not empty", shapes)
    sizes = (x1.shape[-1], x2.shape[-1])
    require(max(sizes) <= _LARGEST, f"{_PRODUCT}: last sizes are at most {_LARGEST}", sizes)
    packed = 8 if x1.dtype == torch.int32 else 1
    if packed == 8:
        emulated(x2.is_contiguous(), f"{_PRODUCT} with a transposed int4 x2")
    require(x1.shape[-1] * packed == x2.shape[-2], f"{_PRODUCT}: x1 is [M, K], x2 is [K, N]", shapes)
    rows, columns = x1.shape[-2], x2.shape[-1] * packed
    _require_vector("scale", scale, columns)
    if offset is not None:
        _require_vector("offset", offset, columns)
    if pertoken is not None:
        fits = pertoken.dtype == torch.float32 and tuple(pertoken.shape) == (rows,)
        rule = f"{_PRODUCT}: pertoken_scale is float32 [{rows}], one for each row of x1"
        require(fits, rule, f"{pertoken.dtype} {tuple(pertoken.shape)}")
    if bias is not None:
        emulated(bias.dim() == 1, f"{_PRODUCT} with a bias of {bias.dim()} dimensions")
        require(tuple(bias.shape) == (columns,), f"{_PRODUCT}: bias is [{columns}]", tuple(bias.shape))
    _check_types(out.dtype, scale, offset, pertoken, bias)


def _require_vector(label: str, t: Tensor, columns: int) -> None:
    """Raise unless a vector has one element, or one for each column."""
    rule = f"{_PRODUCT}: {label} is [1] or [{columns}], one for each column of x2"
    require(t.dim() == 1 and t.numel() in (1, columns), rule, tuple(t.shape))


def _check_types(
    out: torch.dtype, scale: Tensor, offset: Tensor | None, pertoken: Tensor | None, bias: Tensor | None
) -> None:
    """Check the combination of types: the rows of the page's second table."""
    fixed, int32 = (torch.float32, torch.int64), (torch.int32,)
    both = (torch.float32, torch.bfloat16)
    scales, biases, may_offset, may_pertoken = {
        torch.int8: (fixed, int32, True, False),
        torch.float16: ((torch.float32,), (*int32, *both), False, True)
        if pertoken is not None
        else (fixed, int32, False, False),
        torch.bfloat16: (both, (*int32, *both), False, True),
        torch.int32: (both, int32, False, False),
    }.get(out, ((), (), False, False))
    require(bool(scales), f"{_PRODUCT}: output_dtype is int8, float16, bfloat16 or int32", out)
    came = f"{scale.dtype}{' with' if pertoken is not None else ' without'} pertoken_scale"
    require(scale.dtype in scales, f"{_PRODUCT}: for {out} output, scale is one of {scales}", came)
    require(pertoken is None or may_pertoken, f"{_PRODUCT}: {out} output takes no pertoken_scale", "one")
    require(offset is None or may_offset, f"{_PRODUCT}: offset is for int8 output", out)
    if bias is not None:
        require(bias.dtype in biases, f"{_PRODUCT}: for {out} output, bias is one of {biases}", bias.dtype)


@op("QuantMatmulV5", "TTTTTTTTTbbiT", check=_check_quant_matmul)
def _npu_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    pertoken: Tensor | None,
    scale: Tensor,
    y_scale: Tensor | None,
    x1_offset: Tensor | None,
    offset: Tensor | None,
    y_offset: Tensor | None,
    bias: Tensor | None,
    transpose1: bool,
    transpose2: bool,
    group: int,
    out: Tensor,
) -> None:
    """Compute npu_quant_matmul: sums of int8 products are exact, a bias of whole numbers joins them, scales follow."""
    a, b = (unpack_int4(t) if t.dtype == torch.int32 else t for t in (x1, x2))
    sums = a.double() @ b.double()  # fp64 holds every sum of 65,535 products of int8 numbers
    if bias is not None and bias.dtype == torch.int32:
        sums = sums + bias
    if out.dtype == torch.int32:
        store(out, sums)
        return
    factor, shift = _scale_and_offset(scale, offset)
    result = sums * factor
    if pertoken is not None:
        result = result * pertoken.double().unsqueeze(-1)
    if bias is not None and bias.dtype != torch.int32:
        result = result + bias.double()
    if out.dtype == torch.int8:
        result = to_int8(result if shift is None else result + shift)
    store(out, result)


def _check_weight_quant(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    quant_scale: Tensor | None,
    quant_offset: Tensor | None,
    bias: Tensor | None,
    group: int,
    out: Tensor,
) -> None:
    """Check npu_weight_quant_batchmatmul for outputs of 16 bits: types, sizes, groups."""
    emulated(quant_scale is None and quant_offset is None, f"{_WEIGHT} with quant_scale")
    emulated(scale.dtype != torch.int64, f"{_WEIGHT} with an int64 antiquant_scale")
    require(x.dtype in _HALVES, f"{_WEIGHT}: x is float16 or bfloat16", x.dtype)
    require(
        weight.dtype in (torch.int8, torch.int32),
        f"{_WEIGHT}: weight is int8, or int32 with eight int4 each",
        weight.dtype,
    )
    shapes = (tuple(x.shape), tuple(weight.shape))
    require(x.dim() == weight.dim() == 2, f"{_WEIGHT}: x is [M, K], weight is [K, N]", shapes)
    require(x.numel() > 0 and weight.numel() > 0, f"{_WEIGHT}: x and weight are not empty", shapes)
    if weight.dtype == torch.int32:
        emulated(weight.is_contiguous(), f"{_WEIGHT} with a transposed int4 weight")
    inner, columns = weight.shape[0], weight.shape[1] * (8 if weight.dtype == torch.int32 else 1)
    require(x.shape[1] == inner, f"{_WEIGHT}: x is [M, K], weight is [K, N]", shapes)
    require(max(inner, columns) <= _LARGEST, f"{_WEIGHT}: K and N are at most {_LARGEST}", (inner, columns))
    grouped = group != 0
    fits = not grouped or (group % 32 == 0 and 32 <= group <= inner - 1)
    rule = f"{_WEIGHT}: antiquant_group_size is 0, or a multiple of 32 from 32 to K - 1 = {inner - 1}"
    require(fits, rule, group)
    require(scale.dtype == x.dtype, f"{_WEIGHT}: antiquant_scale has x's dtype, {x.dtype}", scale.dtype)
    shape = tuple(scale.shape)
    allowed = {(-(-inner // group), columns)} if grouped else {(1,), (1, 1), (columns,), (1, columns)}
    require(shape in allowed, f"{_WEIGHT}: antiquant_scale is one of {sorted(allowed)}", shape)
    if offset is not None:
        came = f"{offset.dtype} {tuple(offset.shape)}"
        same = offset.dtype == scale.dtype and offset.shape == scale.shape
        require(same, f"{_WEIGHT}: antiquant_offset has antiquant_scale's dtype and shape", came)
    if bias is not None:
        wanted = torch.float32 if x.dtype == torch.bfloat16 else torch.float16
        require(bias.dtype == wanted, f"{_WEIGHT}: bias is {wanted} beside {x.dtype}", bias.dtype)
        fits = tuple(bias.shape) in {(columns,), (1, columns)} and bias.is_contiguous()
        require(fits, f"{_WEIGHT}: bias is [{columns}] or [1, {columns}]", tuple(bias.shape))


@op("WeightQuantBatchMatmulV2", "TTTTTTTiT", check=_check_weight_quant)
def _npu_weight_quant_batchmatmul(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    quant_scale: Tensor | None,
    quant_offset: Tensor | None,
    bias: Tensor | None,
    group: int,
    out: Tensor,
) -> None:
    """Compute npu_weight_quant_batchmatmul: `x @ ((weight + offset) * scale) + bias`; the offset comes first."""
    numbers = (unpack_int4(weight) if weight.dtype == torch.int32 else weight).float()
    if offset is not None:
        numbers = numbers + _by_row(offset, group, len(numbers))
    product = x.float() @ (numbers * _by_row(scale, group, len(numbers)))
    store(out, product if bias is None else product + bias.float())


def _by_row(t: Tensor, group: int, rows: int) -> Tensor:
    """Return scales or offsets so that they broadcast to a weight `[K, N]`: groups are repeated row by row."""
    return t.float().repeat_interleave(group, 0)[:rows] if group else t.float()
