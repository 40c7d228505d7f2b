"""Products with weights of 4 and 8 bits: torch's own kernels for processors, where these are vectorised.

With fp32 activations the same kernels are scalar code, several times slower than plain fp32, so that the
`serves` functions ask for bf16. Layouts are those of torch 2.13; a torch without a kernel serves nothing.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

INT4_GROUPS = (32, 64, 128, 256)
_EXACT = 1024
"""Products of two int8 numbers whose sum fp32 holds exactly: 1024 * 127 * 127 < 2**24."""


def serves_int4(rows: int, columns: int, group: int, like: Tensor) -> bool:
    """Return whether `linear_int4` multiplies a matrix `[rows, columns]` by inputs like `like`, and fast."""
    fits = rows % 16 == 0 and columns % 2 == 0 and group in INT4_GROUPS and columns % group == 0
    return fits and _vectorised("_weight_int4pack_mm_for_cpu", like.device.type, like.dtype)


def pack_int4(codes: Tensor, scale: Tensor, minimum: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes 0 to 15 `[rows, columns]` and grids `[rows, groups]` in the kernel's layout.

    The kernel computes `(code - 8) * scale + zero`, so that its zero is `minimum + 8 * scale`. The pair is the
    packed codes, and scale and zero together in bf16, `[groups, rows, 2]`.
    """
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.to(torch.int32), 1)
    both = torch.stack([scale, minimum + 8 * scale], dim=-1)
    return packed, both.transpose(0, 1).contiguous().to(torch.bfloat16)


def linear_int4(x: Tensor, packed: Tensor, scale_and_zero: Tensor, group: int) -> Tensor:
    """Return `x [T, columns]`, bf16, times the matrix of `pack_int4`, transposed: `[T, rows]` in bf16."""
    product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, group, scale_and_zero)
    return product


def serves_int8(like: Tensor) -> bool:
    """Return whether `linear_int8` multiplies inputs like `like`, and fast."""
    return _vectorised("_weight_int8pack_mm", like.device.type, like.dtype)


def linear_int8(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return `x [T, in]`, bf16, times int8 `weight [out, in]` and bf16 `scale [out]`: `[T, out]` in bf16."""
    product: Tensor = torch.ops.aten._weight_int8pack_mm(x, weight, scale)
    return product


def matmul_int8(x: Tensor, weight: Tensor) -> Tensor:
    """Return int8 `x [T, in]` times int8 `weight [out, in]`, transposed: exact int32 sums `[T, out]`.

    Numbers must lie within -127 and 127. A processor without int8 products adds in fp32, at most 1024
    products at a time, whose sum fp32 holds exactly.
    """
    if x.device.type != "cpu" or _multiplies_int8():
        product: Tensor = torch._int_mm(x, weight.t())
        return product
    total = torch.zeros(len(x), len(weight), dtype=torch.int32, device=x.device)
    for start in range(0, x.shape[1], _EXACT):
        piece = slice(start, start + _EXACT)
        total += (x[:, piece].float() @ weight[:, piece].float().t()).int()
    return total


@functools.cache
def _multiplies_int8() -> bool:
    """Return whether this processor has instructions for sums of int8 products."""
    found = getattr(torch.cpu, "_is_vnni_supported", None) or getattr(
        torch.cpu, "_is_avx512_vnni_supported", None
    )
    return bool(found and found())


@functools.cache
def _vectorised(kernel: str, device: str, dtype: torch.dtype) -> bool:
    """Return whether torch has the kernel, and vector code of the kernel for this processor."""
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return device == "cpu" and dtype == torch.bfloat16 and vectors and hasattr(torch.ops.aten, kernel)
