"""Products with weights of 4 and 8 bits: torch's own kernels for processors, where these are vectorised.

With fp32 activations the same kernels are scalar code, several times slower than plain fp32, so that the
`serves` functions ask for bf16. Layouts are those of torch 2.13; a torch without a kernel serves nothing.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from helpers.ops.int8_cache import quantise_int8

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


def serves_int8(like: Tensor, columns: int = 32) -> bool:
    """Return whether `linear_int8` multiplies a matrix of so many columns by inputs like `like`, and fast.

    The kernel reads columns in vectors, and beyond the end of a matrix whose rows are no whole number of vectors.
    """
    return columns % 32 == 0 and _vectorised("_weight_int8pack_mm", like.device.type, like.dtype)


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


def linear_w8a8(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return `x [T, in]` times int8 `weight [out, in]` with fp32 `scale [out]`, transposed: `[T, out]` in x's dtype.

    Each token becomes int8 with a scale of its own; the sums of products are exact in int32.
    """
    codes, token_scale = quantise_int8(x)
    return (matmul_int8(codes, weight) * token_scale.unsqueeze(-1) * scale).to(x.dtype)


def serves_weight_only(like: Tensor, rows: int, columns: int, bits: int, group: int) -> bool:
    """Return whether the device of `like` has a product for packed weights that stay packed.

    `group` is 0 for one scale a row. The plain version is the definition alone, and serves nothing.
    """
    return False


def linear_weight_only(
    x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None = None, group: int = 0
) -> Tensor:
    """Return `x [T, in]` times `(weight + offset) * scale`, where the offset comes first: `[T, out]` in x's dtype.

    `weight` is int8 `[in, out]`, or int32 `[in, out / 8]` with eight numbers of 4 bits each (`pack_words`).
    Scale and offset are `[in / group, out]`, or `[out]` where `group` is 0.
    """
    numbers = (unpack_words(weight) if weight.dtype == torch.int32 else weight).float()
    if offset is not None:
        numbers = numbers + _by_row(offset, group, len(numbers))
    return (x.float() @ (numbers * _by_row(scale, group, len(numbers)))).to(x.dtype)


def _by_row(t: Tensor, group: int, rows: int) -> Tensor:
    """Return scales or offsets in fp32 so that they broadcast to `[rows, out]`: groups are repeated row by row."""
    return t.float().repeat_interleave(group, 0)[:rows] if group else t.float()


def pack_words(numbers: Tensor) -> Tensor:
    """Return whole numbers -8 to 7 `[rows, columns]` in int32 words of eight neighbours, the first in the lowest bits."""
    digits = (numbers.to(torch.int64) & 15).reshape(*numbers.shape[:-1], -1, 8)
    words: Tensor = (digits << torch.arange(0, 32, 4)).sum(-1)
    return (words - ((words >> 31) << 32)).to(torch.int32)


def unpack_words(words: Tensor) -> Tensor:
    """Return the numbers that `pack_words` packed, int8."""
    codes = digits(words, 32, 4)
    return (codes - 16 * (codes > 7).int()).to(torch.int8).flatten(-2)


def digits(numbers: Tensor, bits: int, unit: int) -> Tensor:
    """Return the digits of `unit` bits in the lowest `bits` of whole numbers, lowest first: `[...]` -> `[..., n]`.

    Both sides of the shift are expanded first: torch_npu gives the result of `>>` the left side's shape.
    """
    shifts = torch.arange(0, bits, unit, dtype=numbers.dtype, device=numbers.device)
    wide = numbers.unsqueeze(-1).expand(*numbers.shape, len(shifts))
    found: Tensor = (wide >> shifts.expand_as(wide)) & (2**unit - 1)
    return found


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
