"""The grid of a group: which values its codes stand for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from helpers.estimates.quantisation.number_format import NumberFormat

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SLACK = 0.499
"""Steps by which a weight may lie outside its grid: less than a half, so that fp32 rounding changes nothing."""


class Grid(NamedTuple):
    """Values `(code - zero) * scale + minimum` in fp32; the three tensors have one element for each group."""

    scale: Tensor
    zero: Tensor
    minimum: Tensor
    lowest: int
    highest: int

    @property
    def inside(self) -> Grid:
        """Return these grids with one more dimension, for the weights inside a group."""
        return self._replace(
            **{name: getattr(self, name).unsqueeze(-1) for name in ("scale", "zero", "minimum")}
        )

    def rows(self, numbers: Tensor) -> Grid:
        """Return the grids of some rows."""
        return self._replace(**{name: getattr(self, name)[numbers] for name in ("scale", "zero", "minimum")})

    def codes(self, weights: Tensor) -> Tensor:
        """Return the codes nearest to `weights`, whole numbers in fp32; weights outside the grid are clamped."""
        return ((weights - self.minimum) / self.scale + self.zero).round().clamp(self.lowest, self.highest)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values of codes, in fp32."""
        return (codes - self.zero) * self.scale + self.minimum


def grid_between(low: Tensor, high: Tensor, fmt: NumberFormat) -> Grid:
    """Return the grids of groups whose smallest and largest weights are `low` and `high` (equal shapes).

    Scales and minima are numbers of the format's scale type. The nearest number is taken where the grid then
    still reaches all weights within half a step; elsewhere the scale is rounded up and the minimum down. So no
    weight is further than half a step from its value. Raises ValueError for weights that are not finite, or too
    large for the scale's type.
    """
    low, high = low.float(), high.float()
    near, far = (_grid(low, high, fmt, outward) for outward in (False, True))
    reached = _reaches(near, low, high)
    scale, zero, minimum = (torch.where(reached, a, b) for a, b in zip(near[:3], far[:3], strict=True))
    grid = Grid(scale, zero, minimum, near.lowest, near.highest)
    if not bool((grid.scale.isfinite() & grid.minimum.isfinite()).all()):
        raise ValueError(f"the weights are not finite, or too large for scales in {fmt.scale}")
    return grid


def _grid(low: Tensor, high: Tensor, fmt: NumberFormat, outward: bool) -> Grid:
    """Return grids whose scales are rounded to the nearest number, or so that the grid becomes larger."""
    top, dtype = 2**fmt.bits - 1, DTYPES[fmt.scale]
    if fmt.offset == "minimum":
        minimum = _down(low, dtype) if outward else low.to(dtype).float()
        scale = _scale((high - (minimum if outward else low)) / top, dtype, outward)
        return Grid(scale, torch.zeros_like(scale), minimum, 0, top)
    if fmt.offset == "none":
        middle = 2 ** (fmt.bits - 1)
        scale = _scale(torch.maximum(low.abs(), high.abs()) / (middle - 1), dtype, outward)
        return Grid(scale, torch.full_like(scale, middle), torch.zeros_like(scale), 1, top)
    low, high = low.clamp(max=0), high.clamp(min=0)  # else no code has the value 0
    scale = _scale((high - low) / top, dtype, outward)
    return Grid(scale, (-low / scale).round().clamp(0, top), torch.zeros_like(scale), 0, top)


def _reaches(grid: Grid, low: Tensor, high: Tensor) -> Tensor:
    """Return for each group whether no weight lies half a step or more outside the grid."""
    first, last = (grid.values(torch.full_like(low, code)) for code in (grid.lowest, grid.highest))
    return (low >= first - _SLACK * grid.scale) & (high <= last + _SLACK * grid.scale)


def _scale(exact: Tensor, dtype: torch.dtype, outward: bool) -> Tensor:
    """Return scales in `dtype`, as fp32; 1 where all weights of a group are equal to the minimum."""
    scale = -_down(-exact, dtype) if outward else exact.to(dtype).float()
    return torch.where(scale == 0, 1.0, scale)


def _down(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the largest numbers of `dtype` that are not above `exact`, as fp32."""
    near = exact.to(dtype)
    below = torch.nextafter(near, torch.full_like(near, -torch.inf))
    return torch.where(near.float() > exact, below, near).float()
