"""A matrix as the kernels read it: plain numbers, or codes of 4 and 8 bits in tiles; and its product."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.native import large_pages
from helpers.native.library import kernels

TILE, SPAN = 16, 32
"""Rows that lie together, column by column, and columns that are computed in one go."""
_FORMATS = {torch.float32: 0, torch.bfloat16: 1}
_NUMBERS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_QUAD = 4  # rows of int8 numbers for whole products, and columns of codes of 4 bits, that lie together


class Plain(NamedTuple):
    """A matrix `[out, in]` of fp32 or bf16 numbers in the order in which the kernels read them."""

    numbers: Tensor
    """`[tiles, in, 16]`; rows behind the last are zero."""
    rows: int

    @classmethod
    def pack(cls, weight: Tensor) -> Plain:
        """Return a copy of `weight [out, in]` in tiles."""
        rows, columns = weight.shape
        tiles = large_pages.empty((-(-rows // TILE), columns, TILE), weight.dtype)
        whole = rows // TILE
        tiles[:whole] = weight[: whole * TILE].reshape(whole, TILE, columns).transpose(1, 2)
        if rows % TILE:
            tiles[whole].zero_()
            tiles[whole, :, : rows % TILE] = weight[whole * TILE :].T
        return cls(tiles, rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows (outputs) and columns (inputs)."""
        return self.rows, self.numbers.shape[1]


class Codes(NamedTuple):
    """A matrix `[out, in]` of codes in the order in which the kernels read them.

    A code `q` stands for `q * scale + minimum`, for `(q - zero) * scale`, or for `(q - middle) * scale`.
    """

    codes: Tensor
    """`[tiles, in, 16]` uint8; of 4 bits `[tiles, in / 4, 8, 4]`: a byte holds rows `j` (lower half) and `j + 8`.

    For whole products `[tiles, 4, in / 32, 4, 32]` int8.
    """
    scale: Tensor
    """`[tiles, groups, 16]`, fp32, fp16 or bf16."""
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
        columns = (
            self.codes.shape[2] * SPAN if self.whole else self.codes.shape[1] * (4 if self.bits == 4 else 1)
        )
        return self.codes.shape[0] * TILE, columns

    @staticmethod
    def fit(rows: int, columns: int, bits: int, group: int) -> bool:
        """Return whether a matrix of codes has whole tiles, and whole blocks of 32 columns in each group but the last."""
        return (
            bits in (4, 8) and rows % TILE == columns % SPAN == 0 and (group % SPAN == 0 or group >= columns)
        )

    @classmethod
    def pack(cls, codes: Tensor, scale: Tensor, offset: Tensor | None, bits: int, group: int) -> Codes:
        """Return codes `[out, in]` and their grids `[out, groups]` in tiles; int8 codes make whole products."""
        offset = None if offset is None else _in_tiles(offset)
        if codes.dtype == torch.int8:
            quads = codes.reshape(-1, TILE // _QUAD, _QUAD, codes.shape[1] // SPAN, SPAN).transpose(2, 3)
            return cls(large_pages.copied(quads), _in_tiles(scale), offset, bits, group, whole=True)
        tiles = _in_tiles(codes)
        if bits == 4:
            tiles = tiles[..., : TILE // 2] | (tiles[..., TILE // 2 :] << 4)
            tiles = tiles.reshape(len(tiles), -1, _QUAD, TILE // 2).transpose(2, 3)
        return cls(large_pages.copied(tiles), _in_tiles(scale), offset, bits, group, whole=False)

    def unpacked(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return codes, scales and offsets as `pack` took them; of the rows with the given numbers, where given."""
        offset = None if self.offset is None else _of_rows(self.offset, rows)
        return self._code_rows(rows), _of_rows(self.scale, rows), offset

    def _code_rows(self, rows: Tensor | None) -> Tensor:
        """Return codes `[n, in]`."""
        if self.whole:
            by_row = self.codes.transpose(2, 3).flatten(0, 2)
            return (by_row if rows is None else by_row[rows]).flatten(1)
        if self.bits == 8:
            return _of_rows(self.codes, rows)
        if rows is None:
            return (
                torch.cat([self.codes & 15, self.codes >> 4], dim=2).transpose(1, 2).flatten(2).flatten(0, 1)
            )
        tile, place = rows // TILE, rows % TILE
        both = self.codes[tile, :, place % (TILE // 2)].flatten(1)
        return torch.where((place < TILE // 2).unsqueeze(1), both & 15, both >> 4)


Matrix = Plain | Codes


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
        if isinstance(matrix, Plain):
            form = _FORMATS[matrix.numbers.dtype]
            return cls(matrix.numbers.data_ptr(), at, None, None, *matrix.shape, 0, form, 0, 0)
        offset, form = matrix.offset, 4 if matrix.whole else 2 if matrix.bits == 4 else 3
        kind = 0 if offset is None else 2 if offset.dtype == torch.uint8 else 1
        return cls(
            matrix.codes.data_ptr(), at, matrix.scale.data_ptr(), None if offset is None else offset.data_ptr(),
            *matrix.shape, matrix.group, form, _NUMBERS[matrix.scale.dtype], kind,
        )  # fmt: skip


def can_read(weight: Tensor | Matrix) -> bool:
    """Return whether the kernels are here and read this matrix, a plain weight once it is in tiles.

    A plain weight has fp32 or bf16 numbers, and rows that are multiples of the processor's vector width.
    """
    functions = kernels().functions
    if functions is None:
        return False
    if not isinstance(weight, Tensor):
        return weight[0].device.type == "cpu"
    fits = weight.device.type == "cpu" and weight.dtype in _FORMATS and not weight.is_mkldnn
    return fits and weight.shape[1] % functions.vector_width() == 0


def product(x: Tensor, matrix: Matrix) -> Tensor:
    """Return `x @ matrix.T` in fp32, for fp32 `x [T, in]` and a matrix `[out, in]` in tiles."""
    x, out = x.contiguous(), torch.empty(len(x), matrix.shape[0])
    function = kernels().functions.product_of  # type: ignore[union-attr]
    function.argtypes = [c_void_p, c_void_p, c_int32, c_void_p, c_int32]
    function(ctypes.byref(CMatrix.of(matrix)), x.data_ptr(), len(x), out.data_ptr(), torch.get_num_threads())
    return out


def numbers(codes: Codes, first: int = 0, count: int | None = None) -> Tensor:
    """Return the numbers behind the codes of `count` rows from `first` on, fp32; both are multiples of 16."""
    count = codes.shape[0] - first if count is None else count
    out = torch.empty(count, codes.shape[1])
    function = kernels().functions.numbers_of  # type: ignore[union-attr]
    function.argtypes = [c_void_p, c_int32, c_int32, c_void_p, c_int32]
    function(ctypes.byref(CMatrix.of(codes)), first, count, out.data_ptr(), torch.get_num_threads())
    return out


def _in_tiles(rows: Tensor) -> Tensor:
    """Return `[rows, n]` as `[rows / 16, n, 16]`."""
    return rows.reshape(len(rows) // TILE, TILE, -1).transpose(1, 2).contiguous()


def _of_rows(tiles: Tensor, rows: Tensor | None) -> Tensor:
    """Return `[tiles, n, 16]` row by row, `[rows, n]`; of some rows, where given."""
    return tiles.transpose(1, 2).flatten(0, 1) if rows is None else tiles[rows // TILE, :, rows % TILE]
