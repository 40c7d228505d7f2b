"""One call of an operator to try, and what all trials share: sizes, lengths, how exact a result must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Draw = Callable[..., Tensor]
"""Draws numbers of a shape, in the type of a trial."""
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Largest allowed `|got - want| / (1 + |want|)`: both versions round, and kernels add in other orders."""
LENGTHS = {  # new tokens and all tokens of each sequence
    "prompts": ([7, 1, 130], [7, 1, 130]),
    "chunks": ([3, 5, 2], [9, 5, 40]),
    "decode": ([1, 1, 1], [1, 17, 64]),
}
HEADS = {"9 heads on 3 of 64": (9, 3, 64), "4 heads on 2 of 128": (4, 2, 128)}


@dataclass(frozen=True)
class Trial:
    """One call to try: an operator, the name of the case, the arguments on the CPU."""

    operator: str
    case: str
    arguments: tuple[Any, ...]
    written: tuple[int, ...] = ()
    """Indices of the arguments that receive the result; empty when the operator returns the result."""
    rounds: bool = False
    """Whether the operator makes codes of 8 bits, of which one at a border may differ by a step."""

    def tolerance(self, dtype: torch.dtype) -> float:
        """Return the largest allowed error in a type: one step of 8 bits where codes are made."""
        return max(TOLERANCE[dtype], TOLERANCE[torch.bfloat16] if self.rounds else 0.0)
