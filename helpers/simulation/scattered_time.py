"""Times of passes that scatter as measured passes did: a simulation becomes one draw of many."""

from __future__ import annotations

import random
from collections.abc import Sequence

from helpers.simulation.pass_time import Load, PassTime


class ScatteredTime:
    """Predict a pass's time by another pass time, times a factor drawn from those of measured passes.

    Passes of one load do not take one time: other work comes between. With several engines that decides which
    request comes first, and so which engine gets it. One simulation is then one of many outcomes, and several
    seeds show how far these lie apart. Factors are drawn independently (a bootstrap of residuals; Efron and
    Tibshirani, 1993, chapter 9).
    """

    def __init__(self, pass_time: PassTime, errors: Sequence[float], seed: int = 0):
        """Take relative errors as `FittedTime.errors` gives them: predicted over measured seconds, less 1.

        Raises ValueError without errors, and for one at which no measured time is above 0.
        """
        if not errors or not all(error > -1 for error in errors):
            raise ValueError(f"expected errors above -1, one or more, got {list(errors)[:5]}")
        self._pass_time = pass_time
        self._factors = [1 / (1 + error) for error in errors]
        self._rng = random.Random(seed)

    def __call__(self, load: Load) -> float:
        """Return the seconds of the next pass; the same load may take another time when asked again."""
        return self._pass_time(load) * self._rng.choice(self._factors)
