"""One matrix of a quantised checkpoint: its numbers, and its codes where a packed product takes these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.compression.grid import Grid
from helpers.compression.quantised import Quantised
from helpers.estimates.quantisation.number_format import NumberFormat


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix `[rows, columns]`, rows are outputs."""

    numbers: Tensor
    """The values behind the codes, fp32."""
    quantised: Quantised | None = None
    """The codes with their grid; None where no packed product reads them (FP8, groups in another order)."""
    activations: bool = False
    """Whether the checkpoint asks for int8 activations beside the int8 weights."""
    bias: Tensor | None = None
    """A bias that only the codes' own tensors tell, fp32 `[rows]` (ModelSlim's static W8A8)."""

    @classmethod
    def of(
        cls,
        codes: Tensor,
        scale: Tensor,
        zero: Tensor,
        bits: int,
        activations: bool = False,
        bias: Tensor | None = None,
    ) -> StoredMatrix:
        """Return the matrix whose numbers are `(code - zero) * scale`.

        `codes` are whole numbers `[rows, columns]` from 0. Scale and zero are `[rows, groups]` or broadcast to
        it; equal groups follow one another along a row.
        """
        rows, columns = codes.shape
        scale, zero = (t.float().expand(rows, max(scale.shape[1], zero.shape[1])) for t in (scale, zero))
        groups = scale.shape[1]
        fmt = _format(bits, columns, groups, bool((zero == 2 ** (bits - 1)).all()))
        middle = torch.full_like(zero, 2 ** (bits - 1)) if fmt.symmetric else torch.zeros_like(zero)
        minimum = torch.zeros_like(zero) if fmt.symmetric else -zero * scale
        grid = Grid(scale, middle, minimum, 0, 2**bits - 1)
        quantised = Quantised.of(codes, grid, fmt)
        return cls(quantised.dequantise(), quantised, activations and fmt.symmetric and groups == 1, bias)


def stacked(parts: Sequence[StoredMatrix]) -> Quantised | None:
    """Return the codes of matrices that share an input, stacked by rows; None where their formats differ."""
    stored = [part.quantised for part in parts]
    first = stored[0]
    if first is None or any(other is None or other.format != first.format for other in stored):
        return None
    known = [quantised for quantised in stored if quantised is not None]
    rows = sum(quantised.shape[0] for quantised in known)
    offsets = [quantised.offset for quantised in known if quantised.offset is not None]
    return Quantised(
        first.format,
        (rows, first.shape[1]),
        torch.cat([quantised.packed for quantised in known]),
        torch.cat([quantised.scale for quantised in known]),
        torch.cat(offsets) if offsets else None,
    )


def _format(bits: int, columns: int, groups: int, symmetric: bool) -> NumberFormat:
    """Return the format with so many groups a row; zero points become minima in fp32."""
    group = "row" if groups == 1 else -(-columns // groups)
    return NumberFormat(bits, group, "none" if symmetric else "minimum", "fp32")  # type: ignore[arg-type]
