"""A matrix of few bits: weights quantised by definition, and their values again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.compression.bit_packing import pack_codes, unpack_codes
from helpers.compression.grid import DTYPES, Grid, grid_between
from helpers.estimates.quantisation.number_format import NumberFormat

Agree = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes the smallest and the largest weight of each group of a part of a matrix, and returns those of the whole."""


@dataclass(frozen=True)
class Quantised:
    """A matrix as its format stores it: `nbytes` is the format's own number, to the byte."""

    format: NumberFormat
    shape: tuple[int, int]
    """Rows (outputs) and columns (inputs)."""
    packed: Tensor
    """Codes, uint8 `[rows, ceil(columns * bits / 8)]`."""
    scale: Tensor
    """Scales `[rows, groups]` in the format's type; `[1, 1]` for one scale a matrix."""
    offset: Tensor | None
    """Minima, like `scale`; or all zero points, packed like one row of codes; or None."""

    @classmethod
    def of(cls, codes: Tensor, grid: Grid, fmt: NumberFormat) -> Quantised:
        """Return codes `[rows, columns]` and their grid `[rows, groups]`, packed."""
        dtype, offset = DTYPES[fmt.scale], None
        if fmt.offset == "minimum":
            offset = grid.minimum.to(dtype)
        elif fmt.offset == "zero":
            offset = pack_codes(grid.zero.reshape(1, -1), fmt.bits)
        shape = (codes.shape[0], codes.shape[1])
        return cls(fmt, shape, pack_codes(codes, fmt.bits), grid.scale.to(dtype), offset)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all stored tensors."""
        stored = (self.packed, self.scale, self.offset)
        return sum(tensor.nbytes for tensor in stored if tensor is not None)

    @property
    def codes(self) -> Tensor:
        """Return the codes, uint8 `[rows, columns]`."""
        return unpack_codes(self.packed, self.format.bits, self.shape[1])

    @property
    def grid(self) -> Grid:
        """Return the grid of each group, tensors `[rows, groups]`, or `[1, 1]`."""
        scale, fmt = self.scale.float(), self.format
        zero, minimum = torch.zeros_like(scale), torch.zeros_like(scale)
        if self.offset is None:
            zero += 2 ** (fmt.bits - 1)
        elif fmt.offset == "minimum":
            minimum += self.offset
        else:
            zero += unpack_codes(self.offset, fmt.bits, scale.numel()).reshape(scale.shape)
        return Grid(scale, zero, minimum, int(fmt.symmetric), 2**fmt.bits - 1)

    def dequantise(self, rows: Tensor | None = None) -> Tensor:
        """Return the values in fp32, `[rows, columns]`; of the rows with the given numbers, where given."""
        packed, grid = self.packed, self.grid
        if rows is not None:
            packed = packed[rows]
            grid = grid if len(grid.scale) == 1 else grid.rows(rows)
        codes = unpack_codes(packed, self.format.bits, self.shape[1])
        grouped = grid.inside.values(in_groups(codes.float(), self.format))
        return grouped.reshape(len(codes), -1)[:, : self.shape[1]]


def quantise_matrix(weight: Tensor, fmt: NumberFormat, agree: Agree | None = None) -> Quantised:
    """Return `weight [rows, columns]` in a format: each weight becomes the nearest value of its group's grid.

    No weight moves by more than half a step, the scale of its group. `agree` serves a part of a larger matrix,
    whose groups have weights elsewhere. Raises ValueError for what is no matrix, for weights that are not finite,
    and for weights too large for the scale's type.
    """
    if weight.dim() != 2 or not weight.numel():
        raise ValueError(f"expected a matrix, got a tensor of shape {tuple(weight.shape)}")
    grouped = in_groups(weight.float(), fmt)
    low, high = grouped.amin(-1), grouped.amax(-1)
    grid = grid_between(*(agree(low, high) if agree else (low, high)), fmt)
    codes = grid.inside.codes(grouped).reshape(len(weight), -1)[:, : weight.shape[1]]
    return Quantised.of(codes, grid, fmt)


def rounded(weight: Tensor, fmt: NumberFormat) -> Tensor:
    """Return the values that `quantise_matrix` would store, in fp32, without packing anything."""
    grouped = in_groups(weight.float(), fmt)
    grid = grid_between(grouped.amin(-1), grouped.amax(-1), fmt).inside
    values = grid.values(grid.codes(grouped))
    return values.reshape(len(weight), -1)[:, : weight.shape[1]].contiguous()


def in_groups(numbers: Tensor, fmt: NumberFormat) -> Tensor:
    """Return `[rows, columns]` as `[rows, groups, size]`, or `[1, 1, all]` for one scale a matrix.

    A row's last group is filled up with the row's last number, which changes neither minimum nor maximum.
    """
    if fmt.group == "tensor":
        return numbers.reshape(1, 1, -1)
    size = numbers.shape[1] if fmt.group == "row" else fmt.group
    missing = -numbers.shape[1] % size
    if missing:
        numbers = torch.cat([numbers, numbers[:, -1:].expand(-1, missing)], dim=1)
    return numbers.reshape(len(numbers), -1, size)
