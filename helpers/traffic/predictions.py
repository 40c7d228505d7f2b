"""What a scheduler is told of the lengths of answers, for `ShortestJobFirst`: the truth, or a guess."""

from __future__ import annotations

import math

from helpers.engine.policies import capped_length
from helpers.engine.request import Request
from helpers.traffic.lengths import stream
from helpers.traffic.trace import Trace


class KnownLength:
    """Tell the true length of each request of a trace, in passes.

    This oracle shows what a perfect predictor would be worth.
    """

    def __init__(self, trace: Trace):
        self._trace = trace

    def __call__(self, request: Request) -> float:
        """Return the length in passes. Raises ValueError for a request that is not of the trace."""
        return capped_length(request) - request.max_tokens + self._answer(request)

    def _answer(self, request: Request) -> float:
        """Return the tokens of the answer."""
        name = request.request_id
        if not isinstance(name, int) or not 0 <= name < len(self._trace):
            raise ValueError(f"request {name!r} is none of the trace's {len(self._trace)}")
        return self._trace[name].new_tokens


class PredictedLength(KnownLength):
    """Guess the length of each request of a trace, in passes.

    A guess is the true length of the answer times a log-normal error of standard deviation `spread`; 0 is the
    truth.
    """

    def __init__(self, trace: Trace, spread: float, seed: int = 0):
        """Draw the errors. Raises ValueError for a spread below 0."""
        super().__init__(trace)
        if not 0 <= spread < math.inf:
            raise ValueError(f"the spread must be 0 or more, got {spread}")
        self._factors = [float(x) for x in _errors(len(trace), spread, seed)]

    def _answer(self, request: Request) -> float:
        """Return the guessed tokens of the answer."""
        answer = super()._answer(request)
        return answer * self._factors[int(request.request_id)]  # type: ignore[call-overload]


def _errors(count: int, spread: float, seed: int) -> list[float]:
    """Return factors by which guesses are wrong."""
    return [math.exp(spread * float(x)) for x in stream(seed, "guesses").standard_normal(count)]
