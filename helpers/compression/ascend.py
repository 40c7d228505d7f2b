"""What torch_npu's operators for W8A8 compute, in plain torch: their names, their defaults, their refusals. Lab 10.

Written from the operators' pages in op-plugin (docs/zh/custom_APIs), for matrices alone. `ops` calls the real ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.ops.int8_cache import quantise_int8
from helpers.ops.low_bit import matmul_int8

_HALVES = (torch.float16, torch.bfloat16)


def npu_dynamic_quant(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `x [T, K]` as int8 codes and fp32 scales `[T]`, one for each token: its largest number / 127.

    Raises ValueError for a type of other than 16 bits.
    """
    if x.dtype not in _HALVES:
        raise ValueError(f"npu_dynamic_quant takes float16 or bfloat16, got {x.dtype}")
    return quantise_int8(x)


def npu_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    pertoken_scale: Tensor | None = None,
    output_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return int8 `x1 [T, K]` times int8 `x2 [K, N]`, `[T, N]`; **without `output_dtype` the result is int8**.

    - int8: each sum times `scale [N]`, rounded, and clamped to -128 to 127. It takes no `pertoken_scale`.
    - bf16: each sum times `scale [N]`, and times `pertoken_scale [T]` where there is one.
    - int32: the exact sums; no scale is multiplied.

    Raises ValueError for other types and sizes.
    """
    if (x1.dtype, x2.dtype) != (torch.int8, torch.int8) or x1.shape[-1] != x2.shape[0]:
        raise ValueError(
            f"npu_quant_matmul takes int8 [T, K] and [K, N], got {x1.dtype} {list(x1.shape)} and "
            f"{x2.dtype} {list(x2.shape)}"
        )
    if tuple(scale.shape) not in ((1,), (x2.shape[1],)):
        raise ValueError(
            f"scale is [1] or [{x2.shape[1]}], one for each column of x2, got {list(scale.shape)}"
        )
    sums, kind = matmul_int8(x1, x2.t()), output_dtype or torch.int8
    if kind not in (torch.int8, torch.int32, torch.bfloat16):
        raise ValueError(f"output_dtype is int8, bfloat16 or int32, got {kind}")
    if pertoken_scale is not None:
        if kind != torch.bfloat16:
            raise ValueError(f"{kind} output takes no pertoken_scale; is output_dtype missing?")
        if tuple(pertoken_scale.shape) != (len(x1),):
            raise ValueError(f"pertoken_scale is [{len(x1)}], got {list(pertoken_scale.shape)}")
    if kind == torch.int32:
        return sums
    result = sums.double() * scale
    if kind == torch.int8:
        return result.round().clamp(-128, 127).to(torch.int8)
    return (result if pertoken_scale is None else result * pertoken_scale.unsqueeze(-1)).to(kind)


def npu_dequant_swiglu_quant(
    x: Tensor, *, weight_scale: Tensor, activation_scale: Tensor, activate_left: bool = False, quant_mode: int = 0
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the SwiGLU of a product's int32 sums `[T, 2H]` as int8 codes `[T, H]` and fp32 scales `[T]`.

    The sums are multiplied by `weight_scale [1, 2H]` and `activation_scale [T, 1]`, both fp32. Then one half goes
    through SiLU and multiplies the other: **the right half, unless `activate_left`**. `quant_mode` 1 chooses a
    scale for each token. Raises ValueError for other sizes and types, and for mode 0, whose fixed scale is not
    modelled here.
    """
    if x.dtype != torch.int32 or quant_mode != 1:
        raise ValueError(
            f"expected int32 sums and quant_mode 1 (dynamic), got {x.dtype} and mode {quant_mode}"
        )
    for name, t, shape in (("weight_scale", weight_scale, (1, x.shape[1])), ("activation_scale", activation_scale, (len(x), 1))):  # fmt: skip
        if tuple(t.shape) != shape or t.dtype != torch.float32:
            raise ValueError(f"{name} is float32 {list(shape)}, got {t.dtype} {list(t.shape)}")
    left, right = (x.float() * weight_scale * activation_scale).chunk(2, dim=-1)
    return quantise_int8(F.silu(left) * right if activate_left else F.silu(right) * left)
