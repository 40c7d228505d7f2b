"""What requests ask for: seeded distributions of lengths, and mixes.

A mix is of prompts, answers, clients and priorities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Lengths:
    """Describe token counts of a log-normal shape, cut to `shortest` and `longest`.

    The lengths in published traces have roughly this shape. `spread` is the standard deviation of the
    logarithm; with a spread of 0 all counts are `median`.
    """

    median: float
    spread: float = 0.0
    shortest: int = 1
    longest: int = 4096

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that no distribution has."""
        if not 0 <= self.shortest <= self.median <= self.longest or not 0 <= self.spread < math.inf:
            raise ValueError(
                f"expected 0 <= shortest <= median <= longest and a spread of 0 or more, got {self}"
            )

    def draw(self, count: int, rng: np.random.Generator) -> list[int]:
        """Return `count` lengths."""
        drawn: NDArray[np.float64] = self.median * np.exp(self.spread * rng.standard_normal(count))
        return [int(n) for n in np.clip(np.rint(drawn), self.shortest, self.longest)]


@dataclass(frozen=True)
class Mix:
    """Describe what requests ask for, for which clients, and with which priorities.

    Clients and priorities are drawn evenly. A client that is named twice is drawn twice as often.
    """

    prompt: Lengths = Lengths(128, 0.8, 8, 1024)
    answer: Lengths = Lengths(48, 0.7, 2, 256)
    clients: Sequence[str | None] = (None,)
    priorities: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        """Raise ValueError when there is no client or no priority to draw."""
        if not self.clients or not self.priorities:
            raise ValueError(f"expected one or more clients and priorities, got {self}")


def stream(seed: int, what: str) -> np.random.Generator:
    """Return a random generator for one purpose, `what`: its draws change the draws of no other purpose."""
    return np.random.default_rng([seed, *what.encode()])
