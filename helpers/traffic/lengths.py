"""What requests ask for: seeded distributions of lengths, and a mix of prompts, answers, clients and priorities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Lengths:
    """Token counts of a log-normal shape, as those of published traces roughly are, cut to `shortest` and `longest`.

    `spread` is the standard deviation of the logarithm; 0 makes all of them `median`.
    """

    median: float
    spread: float = 0.0
    shortest: int = 1
    longest: int = 4096

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that no distribution has."""
        if not 0 <= self.shortest <= self.median <= self.longest or not 0 <= self.spread < math.inf:
            raise ValueError(
                f"expected 0 <= shortest <= median <= longest and a spread of 0 or more, got {self}"
            )

    def draw(self, count: int, rng: np.random.Generator) -> list[int]:
        """So many lengths."""
        drawn: NDArray[np.float64] = self.median * np.exp(self.spread * rng.standard_normal(count))
        return [int(n) for n in np.clip(np.rint(drawn), self.shortest, self.longest)]


@dataclass(frozen=True)
class Mix:
    """Who asks for what. Clients and priorities are drawn evenly; name one twice, and it is drawn twice as often."""

    prompt: Lengths = Lengths(128, 0.8, 8, 1024)
    answer: Lengths = Lengths(48, 0.7, 2, 256)
    clients: Sequence[str | None] = (None,)
    priorities: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        """Raises ValueError where there is nothing to draw from."""
        if not self.clients or not self.priorities:
            raise ValueError(f"expected one or more clients and priorities, got {self}")


def stream(seed: int, what: str) -> np.random.Generator:
    """Random numbers of their own for each thing that is drawn, so that one more of this changes none of that."""
    return np.random.default_rng([seed, *what.encode()])
