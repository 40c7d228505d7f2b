"""How quantised checkpoints store a matrix: AWQ, GPTQ, FP8 in blocks, compressed-tensors, and Ascend's ModelSlim.

Each function takes the tensors of one module by their last names and returns the matrix. ValueError, naming
the module by its caller, follows where a tensor is missing or has another shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.compression.stored.matrix import StoredMatrix
from helpers.compression.stored.words import codes_of_words
from helpers.estimates.quantisation.config_fields import bits_of

Tensors = Mapping[str, Tensor]
Decode = Callable[[Tensors], StoredMatrix]
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_FP8 = torch.float8_e4m3fn


def awq(fields: Mapping[str, Any]) -> Decode:
    """Return the reader of AWQ's 4-bit layout (arXiv:2306.00978, version "gemm").

    `qweight` is `[in, out / 8]`, `qzeros` `[groups, out / 8]`, `scales` `[groups, out]`; even columns of a word
    come first.
    """
    if bits_of(fields) != 4 or str(fields.get("version", "gemm")) != "gemm":
        raise ValueError(f"AWQ is read with 4 bits and version 'gemm' alone, got {dict(fields)}"[:190])

    def decode(tensors: Tensors) -> StoredMatrix:
        codes, zero = (codes_of_words(tensors[name], 4, _AWQ_ORDER) for name in ("qweight", "qzeros"))
        return StoredMatrix.of(codes.t(), tensors["scales"].t(), zero.t(), 4)

    return decode


def gptq(fields: Mapping[str, Any]) -> Decode:
    """Return the reader of GPTQ's layout (arXiv:2210.17323) with 2, 4 or 8 bits.

    `qweight` is `[in * bits / 32, out]`, packed down the columns; `qzeros` `[groups, out * bits / 32]` holds
    zero points less one, unless `checkpoint_format` is "gptq_v2". `g_idx [in]` is each input's group.
    """
    bits, less = bits_of(fields), 0 if fields.get("checkpoint_format") == "gptq_v2" else 1
    if bits not in (2, 4, 8):
        raise ValueError(f"GPTQ is read with 2, 4 or 8 bits, got {bits}")

    def decode(tensors: Tensors) -> StoredMatrix:
        codes = codes_of_words(tensors["qweight"].t().contiguous(), bits)
        zero, scale = codes_of_words(tensors["qzeros"], bits).t() + less, tensors["scales"].t().float()
        group, columns = tensors.get("g_idx"), codes.shape[1]
        usual = torch.arange(columns) // -(-columns // scale.shape[1])
        if group is None or torch.equal(group.long(), usual):
            return StoredMatrix.of(codes, scale, zero, bits)
        return StoredMatrix((codes - zero[:, group.long()]) * scale[:, group.long()])

    return decode


def fp8(fields: Mapping[str, Any]) -> Decode:
    """Return the reader of FP8 in blocks (arXiv:2412.19437), or with one scale a matrix.

    `weight` is float8_e4m3 `[out, in]`, `weight_scale_inv` (or `weight_scale`) has a factor for each block.
    """
    block = fields.get("weight_block_size")

    def decode(tensors: Tensors) -> StoredMatrix:
        if tensors["weight"].dtype != _FP8:
            raise ValueError(f"weight is {tensors['weight'].dtype}, not {_FP8}")
        weight = tensors["weight"].float()
        scale = tensors["weight_scale_inv" if "weight_scale_inv" in tensors else "weight_scale"].float()
        return StoredMatrix(weight * _spread(scale, weight.shape, block))

    return decode


def compressed(group: Mapping[str, Any], form: str) -> Decode:
    """Return the reader of a group of compressed-tensors: pack-quantized, int-quantized or float-quantized."""
    args = group["weights"]
    bits, inputs = int(args["num_bits"]), group.get("input_activations")

    def decode(tensors: Tensors) -> StoredMatrix:
        scale = tensors["weight_scale"].float()
        if form in ("float-quantized", "naive-quantized") and args.get("type") == "float":
            weight = tensors["weight"].float()
            return StoredMatrix(weight * _spread(scale, weight.shape, args.get("block_structure")))
        middle, scale = 2 ** (bits - 1), scale if scale.dim() == 2 else scale.reshape(-1, 1)
        zero = tensors.get("weight_zero_point")
        if form == "pack-quantized":
            rows, columns = (int(n) for n in tensors["weight_shape"])
            codes = codes_of_words(tensors["weight_packed"], bits)[:, :columns]
            if zero is not None and zero.dtype == torch.int32:  # packed down the columns
                zero = codes_of_words(zero.t().contiguous(), bits).t()[:rows] - middle
        else:
            codes = tensors["weight"].long() + middle
        shift = torch.zeros_like(scale) if zero is None else zero.float().reshape(scale.shape)
        order = tensors.get("weight_g_idx")
        if order is not None and not bool((order.diff() >= 0).all()):
            places = order.long()
            return StoredMatrix((codes - middle - shift[:, places]) * scale[:, places])
        asks = bits == 8 and bool(inputs) and (inputs or {}).get("type", "int") == "int"
        return StoredMatrix.of(codes, scale, shift + middle, bits, activations=asks)

    if form not in ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized") or bits not in (
        4,
        8,
    ):
        raise ValueError(f"compressed-tensors' format {form!r} with {bits} bits is not read")
    return decode


def model_slim(kind: str) -> Decode:
    """Return the reader of a matrix that ModelSlim's description calls W8A8, W8A8_DYNAMIC or W8A16.

    `weight` is int8 `[out, in]`; its numbers are `(weight - weight_offset) * weight_scale`, one of each for a
    row. Static W8A8 has `deq_scale`, the product of both scales, and a `quant_bias` that takes the input's
    offset back.
    """
    if kind not in ("W8A8", "W8A8_DYNAMIC", "W8A16"):
        raise ValueError(f"ModelSlim's {kind!r} is not read; W8A8, W8A8_DYNAMIC and W8A16 are")

    def decode(tensors: Tensors) -> StoredMatrix:
        weight = tensors["weight"].long()
        if kind == "W8A8":
            return _static(weight, tensors)
        scale, offset = (tensors[name].reshape(-1, 1) for name in ("weight_scale", "weight_offset"))
        return StoredMatrix.of(weight + 128, scale, offset.float() + 128, 8, activations=kind != "W8A16")

    return decode


def _static(weight: Tensor, tensors: Tensors) -> StoredMatrix:
    """Return a matrix of static W8A8, whose inputs get dynamic scales here, and its bias.

    `output = (codes of the input @ weight + quant_bias) * deq_scale`, where a code is `x / input_scale + offset`.
    """
    combined = tensors["deq_scale"]
    if combined.dtype == torch.int64:  # the bits of an fp32 number
        combined = (combined & 0xFFFFFFFF).to(torch.int32).view(torch.float32)
    input_scale, input_offset = (
        tensors[name].float().reshape(()) for name in ("input_scale", "input_offset")
    )
    bias = (tensors["quant_bias"].double() + weight.sum(1) * input_offset.double()) * combined.double()
    scale = (combined / input_scale).reshape(-1, 1)
    zero = torch.full((1, 1), 128.0)
    return StoredMatrix.of(weight + 128, scale, zero, 8, activations=True, bias=bias.float())


def _spread(scale: Tensor, shape: torch.Size, block: Any) -> Tensor:
    """Return scales so that they broadcast to a matrix: each block's factor at each of its numbers."""
    if not block:
        return scale.reshape(-1, 1) if scale.numel() > 1 else scale.reshape(1, 1)
    down, across = (int(n) for n in block)
    spread = scale.repeat_interleave(down, 0).repeat_interleave(across, 1)
    return spread[: shape[0], : shape[1]]
