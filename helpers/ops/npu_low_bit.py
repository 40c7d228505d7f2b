"""Products with quantised weights on an Ascend NPU: both sides in 8 bits, or weights of 4 and 8 bits alone."""

from __future__ import annotations

import torch
import torch_npu
from torch import Tensor

from helpers.ops import low_bit

_STEP, _LARGEST = 32, 65535


def linear_w8a8(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the plain version's result, by `npu_dynamic_quant` and `npu_quant_matmul`.

    Raises ValueError for fp32, which `npu_dynamic_quant` does not take.
    """
    if x.dtype == torch.float32:
        raise ValueError(
            "the NPU makes int8 of 16-bit activations only, got float32; convert the model first"
        )
    codes, token_scale = torch_npu.npu_dynamic_quant(x.contiguous())
    product: Tensor = torch_npu.npu_quant_matmul(
        codes, weight.t(), scale, pertoken_scale=token_scale, output_dtype=x.dtype
    )
    return product


def matmul_int8(x: Tensor, weight: Tensor) -> Tensor:
    """Return the plain version's exact sums, by `npu_quant_matmul`, whose output is int8 unless told otherwise."""
    scale = torch.ones(1, device=x.device)
    sums: Tensor = torch_npu.npu_quant_matmul(x, weight.t(), scale, output_dtype=torch.int32)
    return sums


def serves_weight_only(like: Tensor, rows: int, columns: int, bits: int, group: int) -> bool:
    """Return whether `npu_weight_quant_batchmatmul` takes such weights beside inputs like `like`."""
    grouped = group > 0 and group % _STEP == 0 and group < columns
    fits = max(rows, columns) <= _LARGEST and (group == 0 or grouped)
    return fits and like.dtype != torch.float32 and (bits == 8 or (bits == 4 and rows % 8 == 0))


def linear_weight_only(
    x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None, group: int = 0
) -> Tensor:
    """Return the plain version's result, by `npu_weight_quant_batchmatmul`; fp32 takes the plain version."""
    if x.dtype == torch.float32:
        return low_bit.linear_weight_only(x, weight, scale, offset, group)
    product: Tensor = torch_npu.npu_weight_quant_batchmatmul(
        x.contiguous(), weight, scale, antiquant_offset=offset, antiquant_group_size=group
    )
    return product
