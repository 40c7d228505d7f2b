"""A matrix as the kernels read it: plain numbers, or codes of 4 and 8 bits in tiles; and its product."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.native.library import kernels

TILE, SPAN = 8, 32
"""Rows and columns of codes that lie together."""
_FORMATS = {torch.float32: 0, torch.bfloat16: 1}
_NUMBERS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


class Codes(NamedTuple):
    """A matrix `[out, in]` of codes in the order in which the kernels read them.

    A code `q` stands for `q * scale + minimum`, for `(q - zero) * scale`, or for `(q - middle) * scale`.
    """

    codes: Tensor
    """`[out / 8, in / 32, 8, 32]` uint8, two codes of 4 bits in a byte; int8 numbers for whole products."""
    scale: Tensor
    """`[out / 8, groups, 8]`, fp32, fp16 or bf16."""
    offset: Tensor | None
    """Minima like `scale`, or zeros in uint8, or None: the middle code stands for 0."""
    bits: int
    group: int
    """Columns that share a scale."""
    whole: bool
    """Whether inputs become int8, too, each token with a scale of its own."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows (outputs) and columns (inputs)."""
        return self.codes.shape[0] * TILE, self.codes.shape[1] * SPAN

    @staticmethod
    def fit(rows: int, columns: int, bits: int, group: int) -> bool:
        """Return whether a matrix of codes has whole tiles, and whole blocks in each group but the last."""
        return (
            bits in (4, 8) and rows % TILE == columns % SPAN == 0 and (group % SPAN == 0 or group >= columns)
        )

    @classmethod
    def pack(cls, codes: Tensor, scale: Tensor, offset: Tensor | None, bits: int, group: int) -> Codes:
        """Return codes `[out, in]` and their grids `[out, groups]` in tiles; int8 codes make whole products."""
        tiles = codes.reshape(len(codes) // TILE, TILE, -1, SPAN).transpose(1, 2)
        if bits == 4:
            tiles = tiles[..., : SPAN // 2] | (tiles[..., SPAN // 2 :] << 4)
        offset = None if offset is None else _in_tiles(offset)
        return cls(tiles.contiguous(), _in_tiles(scale), offset, bits, group, codes.dtype == torch.int8)

    def unpacked(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return codes, scales and offsets as `pack` took them; of the rows with the given numbers, where given."""
        codes, scale = (_of_rows(t.transpose(1, 2), rows) for t in (self.codes, self.scale))
        offset = None if self.offset is None else _of_rows(self.offset.transpose(1, 2), rows)
        if self.bits == 4:
            codes = torch.cat([codes & 15, codes >> 4], dim=-1)
        return codes.flatten(1), scale, offset


Matrix = Tensor | Codes


class CMatrix(ctypes.Structure):
    """A matrix and its bias as C++ sees them."""

    _fields_ = (
        *((name, c_void_p) for name in ("weight", "bias", "scale", "offset")),
        *((name, c_int32) for name in ("rows", "columns", "group", "format", "number", "kind")),
    )

    @classmethod
    def of(cls, matrix: Matrix, bias: Tensor | None = None) -> CMatrix:
        """Return a matrix and its fp32 bias as C++ sees them."""
        at = None if bias is None else bias.data_ptr()
        if isinstance(matrix, Tensor):
            return cls(matrix.data_ptr(), at, None, None, *matrix.shape, 0, _FORMATS[matrix.dtype], 0, 0)
        offset, form = matrix.offset, 4 if matrix.whole else 2 if matrix.bits == 4 else 3
        kind = 0 if offset is None else 2 if offset.dtype == torch.uint8 else 1
        return cls(
            matrix.codes.data_ptr(), at, matrix.scale.data_ptr(), None if offset is None else offset.data_ptr(),
            *matrix.shape, matrix.group, form, _NUMBERS[matrix.scale.dtype], kind,
        )  # fmt: skip


def can_read(matrix: Matrix) -> bool:
    """Return whether the kernels are here and read this matrix: codes, or plain numbers in fp32 or bf16.

    Plain rows must be multiples of the processor's vector width.
    """
    functions = kernels().functions
    if functions is None:
        return False
    if isinstance(matrix, Codes):
        return matrix.codes.device.type == "cpu"
    fits = matrix.device.type == "cpu" and matrix.dtype in _FORMATS and not matrix.is_mkldnn
    return fits and matrix.is_contiguous() and matrix.shape[1] % functions.vector_width() == 0


def product(x: Tensor, matrix: Matrix) -> Tensor:
    """Return `x @ matrix.T` in fp32, for fp32 `x [T, in]` and a matrix `[out, in]` that the kernels can read."""
    x, out = x.contiguous(), torch.empty(len(x), matrix.shape[0])
    function = kernels().functions.product_of  # type: ignore[union-attr]
    function.argtypes = [c_void_p, c_void_p, c_int32, c_void_p, c_int32]
    function(ctypes.byref(CMatrix.of(matrix)), x.data_ptr(), len(x), out.data_ptr(), torch.get_num_threads())
    return out


def numbers(codes: Codes, first: int = 0, count: int | None = None) -> Tensor:
    """Return the numbers behind the codes of `count` rows from `first` on, fp32; both are multiples of 8."""
    count = codes.shape[0] - first if count is None else count
    out = torch.empty(count, codes.shape[1])
    function = kernels().functions.numbers_of  # type: ignore[union-attr]
    function.argtypes = [c_void_p, c_int32, c_int32, c_void_p, c_int32]
    function(ctypes.byref(CMatrix.of(codes)), first, count, out.data_ptr(), torch.get_num_threads())
    return out


def _in_tiles(grid: Tensor) -> Tensor:
    """Return `[rows, groups]` as `[rows / 8, groups, 8]`."""
    return grid.reshape(len(grid) // TILE, TILE, -1).transpose(1, 2).contiguous()


def _of_rows(tiles: Tensor, rows: Tensor | None) -> Tensor:
    """Return `[rows / 8, 8, ...]` row by row, `[n, ...]`."""
    return tiles.flatten(0, 1) if rows is None else tiles[rows // TILE, rows % TILE]
