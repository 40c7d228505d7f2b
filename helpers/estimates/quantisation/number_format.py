"""How a matrix of few bits is stored, as data: bits, groups, the type of scales, and the offset."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

SCALE_BITS = {"fp32": 32, "fp16": 16, "bf16": 16}
Group = int | Literal["row", "tensor"]
Offset = Literal["none", "minimum", "zero"]


@dataclass(frozen=True)
class NumberFormat:
    """A grid of `2**bits` values for each group of weights, whose codes, scales and offsets are stored.

    A code is a whole number from 0. Its value is `(code - zero) * scale + minimum`.
    """

    bits: int
    """Bits of a code, 2 to 8."""
    group: Group = "row"
    """Weights of a row that share a scale: a number, the whole row (one output), or the whole matrix."""
    offset: Offset = "none"
    """What is stored beside a scale.

    With `"none"` the grid is symmetric: the zero is the middle code. `"minimum"` stores the value of code 0 in
    the scale's type (GGUF's Q4_1). `"zero"` stores the code whose value is 0, in `bits` bits (AWQ, GPTQ).
    """
    scale: str = "fp16"
    """Type of scales and minima: fp32, fp16 or bf16."""

    def __post_init__(self) -> None:
        """Raise ValueError for a format that does not exist."""
        if not 2 <= self.bits <= 8:
            raise ValueError(f"a code has 2 to 8 bits, got {self.bits}")
        if self.group not in ("row", "tensor") and not (isinstance(self.group, int) and self.group > 0):
            raise ValueError(f"group is a number above 0, 'row' or 'tensor', got {self.group!r}")
        if self.offset not in ("none", "minimum", "zero"):
            raise ValueError(f"offset is 'none', 'minimum' or 'zero', got {self.offset!r}")
        if self.scale not in SCALE_BITS:
            raise ValueError(f"scales are {', '.join(SCALE_BITS)}, got {self.scale!r}")

    @property
    def symmetric(self) -> bool:
        """Return whether the grid has no offset of its own."""
        return self.offset == "none"

    @property
    def group_bits(self) -> int:
        """Return the bits that a group stores beside its codes."""
        scale = SCALE_BITS[self.scale]
        return scale + {"none": 0, "minimum": scale, "zero": self.bits}[self.offset]

    @property
    def bytes_per_number(self) -> float:
        """Return the bytes of a weight with its share of its group; one scale a row or matrix is not counted."""
        share = self.group_bits / self.group if isinstance(self.group, int) else 0.0
        return (self.bits + share) / 8

    def num_groups(self, rows: int, columns: int) -> int:
        """Return how many scales a matrix `[rows, columns]` has; a row's last group may be shorter."""
        if self.group == "tensor":
            return 1
        return rows * (1 if self.group == "row" else ceil(columns / self.group))

    def nbytes(self, rows: int, columns: int) -> int:
        """Return the bytes of a matrix `[rows, columns]`: codes, each row in whole bytes, scales, offsets."""
        groups, scale = self.num_groups(rows, columns), SCALE_BITS[self.scale] // 8
        offsets = {"none": 0, "minimum": groups * scale, "zero": ceil(groups * self.bits / 8)}
        return rows * ceil(columns * self.bits / 8) + groups * scale + offsets[self.offset]

    def __str__(self) -> str:
        """Return a short name, such as `int4, groups of 32, minimum`."""
        groups = f"groups of {self.group}" if isinstance(self.group, int) else f"one scale a {self.group}"
        return f"int{self.bits}, {groups}" + ("" if self.symmetric else f", {self.offset}")
