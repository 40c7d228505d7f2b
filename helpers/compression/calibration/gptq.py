"""Rounding that looks ahead: each column's error is made good by the columns behind it (GPTQ)."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.compression.grid import Grid, grid_between
from helpers.compression.quantised import Quantised
from helpers.estimates.quantisation.number_format import NumberFormat


def gptq(weight: Tensor, gram: Tensor, fmt: NumberFormat, dampening: float = 0.01) -> Quantised:
    """Return `weight [out, in]` in a format, rounded so that *outputs* move little (arXiv:2210.17323).

    `gram [in, in]` is that of a calibration. Columns are rounded from left to right; what a column's rounding
    does to the outputs, later columns take back as far as inputs are large together. A group's grid is chosen
    when its turn comes. Raises ValueError for one scale a matrix, and for a gram of another size.
    """
    columns = weight.shape[1]
    if fmt.group == "tensor" or gram.shape != (columns, columns):
        raise ValueError(f"expected groups within rows, and a gram of {columns} x {columns}")
    size = columns if fmt.group == "row" else fmt.group
    weight, ahead = weight.float().clone(), _influence(gram.float(), dampening)
    codes, grids = torch.empty_like(weight), list[Grid]()
    for start in range(0, columns, size):
        stop = min(start + size, columns)
        group = weight[:, start:stop]
        grid = grid_between(group.amin(1), group.amax(1), fmt)
        errors = torch.empty_like(group)
        for j in range(start, stop):
            codes[:, j] = grid.codes(weight[:, j])
            error = (weight[:, j] - grid.values(codes[:, j])) / ahead[j, j]
            weight[:, j:stop] -= torch.outer(error, ahead[j, j:stop])
            errors[:, j - start] = error
        weight[:, stop:] -= errors @ ahead[start:stop, stop:]
        grids.append(grid)
    scale, zero, minimum = (torch.stack(parts, dim=1) for parts in zip(*(g[:3] for g in grids), strict=True))
    return Quantised.of(codes, Grid(scale, zero, minimum, grid.lowest, grid.highest), fmt)


def _influence(gram: Tensor, dampening: float) -> Tensor:
    """Return the upper Cholesky factor of the gram's inverse; a share of the mean is added to its diagonal."""
    damped = gram + dampening * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
