"""Times of the engine's passes: predicted from a roofline, or fitted to passes that were measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from helpers.engine.step import Step
from helpers.estimates.ceilings import Ceilings
from helpers.estimates.cost import StepCost, step_cost
from helpers.model.shapes import ModelShape


def pass_cost(shape: ModelShape, step: Step, **sizes: float) -> StepCost:
    """Return operations and bytes of one logged pass, as chapter 2 counts; `sizes` as in `step_cost`."""
    return step_cost(shape, [p.num_tokens for p in step.parts], [p.start for p in step.parts], **sizes)


class Load(NamedTuple):
    """Sum up what a pass computes, over its sequences.

    The time of a pass is assumed to depend on these sums alone.
    """

    tokens: int
    """New tokens."""
    sequences: int
    history: int
    """Cached tokens that are read."""
    attended: int
    """Pairs of a new token and a token that the new token attends to, itself included."""

    @classmethod
    def of(cls, parts: Iterable[tuple[int, int]]) -> Load:
        """Return the load of sequences given as (new tokens, cached tokens)."""
        tokens = sequences = history = attended = 0
        for new, old in parts:
            tokens += new
            sequences += 1
            history += old
            attended += new * (2 * old + new + 1) // 2
        return cls(tokens, sequences, history, attended)


class PassTime(Protocol):
    """Describe a function that gives the seconds of a pass, by the load of the pass."""

    def __call__(self, load: Load) -> float:
        """Return the seconds, above 0."""


class RooflineTime:
    """Predict the least time of a pass under `ceilings` (`helpers.estimates.cost`), plus `overhead` seconds.

    With `ceilings.accelerator_ceilings(name)` the prediction is for an accelerator that is not here.
    """

    def __init__(self, shape: ModelShape, ceilings: Ceilings, overhead: float = 0.0, **sizes: float):
        """Find the coefficients of cost; `sizes` are the options of `step_cost`.

        Raises ValueError for an overhead below 0, and for a model whose cost is not linear in the sums of a pass: one with
        windows, experts or sparse attention.
        """
        if not overhead >= 0:
            raise ValueError(f"the overhead must be 0 seconds or more, got {overhead}")
        self.ceilings, self.overhead = ceilings, overhead
        self._flops, self._bytes = linear_parts(shape, lambda cost: (cost.flops, cost.nbytes), **sizes)
        new, old = (7, 1, 300), (5000, 40, 0)
        known, told = step_cost(shape, new, old, **sizes), self._cost(Load.of(zip(new, old, strict=True)))
        if not np.allclose(told, (known.flops, known.nbytes), rtol=1e-6):
            raise ValueError(
                "the cost of a pass of this model is not linear in its sums; use `step_cost` pass by pass"
            )

    def __call__(self, load: Load) -> float:
        """Return the seconds."""
        return self.ceilings.seconds(*self._cost(load)) + self.overhead

    def _cost(self, load: Load) -> tuple[float, float]:
        """Return operations and bytes of a pass."""
        return at_load(self._flops, load), at_load(self._bytes, load)


def linear_parts(
    shape: ModelShape, parts: Callable[[StepCost], tuple[float, float]], **sizes: float
) -> list[list[float]]:
    """Return, for each of two parts of a pass's cost, a constant and the factors of the load's sums.

    The parts must be linear in these sums: five passes then give all factors. `sizes` are the options of `step_cost`.
    """
    probes = (((1,), (0,)), ((1, 1), (0, 0)), ((2,), (0,)), ((1,), (1,)), ((2,), (1,)))
    costs = [parts(step_cost(shape, new, old, **sizes)) for new, old in probes]
    loads = [(1, *Load.of(zip(new, old, strict=True))) for new, old in probes]
    found = np.linalg.solve(np.array(loads, float), np.array(costs))
    return [[float(x) for x in column] for column in np.rint(found).T]


def at_load(factors: Sequence[float], load: Load) -> float:
    """Return a part of a pass's cost: a constant, and a factor for each sum of the load."""
    constant, per_token, per_sequence, per_history, per_pair = factors
    tokens, sequences, history, attended = load
    return (
        constant + per_token * tokens + per_sequence * sequences + per_history * history + per_pair * attended
    )


class FittedTime:
    """Predict the time of a pass from measured passes of a batcher's log.

    The time is a curve over the tokens of the pass, and a share for each sequence and each attended pair. The
    curve is linear between `knots`, because matrix products of 1, 2 or 8 tokens are different kernels. Beyond
    the last knot the curve goes on with its slope. No share is negative. The fit is by least squares of the
    relative error.
    """

    def __init__(self, knots: Sequence[int], at_knots: Sequence[float], per_sequence: float, per_pair: float):
        """Set a fit as `of` finds it: seconds at each of the `knots`, per sequence and per attended pair.

        The knots are counts of tokens, in ascending order.
        """
        self.knots, self.at_knots = tuple(knots), tuple(at_knots)
        self.per_sequence, self.per_pair = per_sequence, per_pair
        self._curve: dict[int, float] = {}

    @classmethod
    def of(cls, steps: Sequence[Step], skip: int = 1) -> FittedTime:
        """Return the fit to a log, without the first `skip` passes, which warm up.

        Raises ValueError for fewer than 8 passes.
        """
        steps = steps[skip:]
        if len(steps) < 8:
            raise ValueError(f"expected 8 passes or more to fit a curve to, got {len(steps)}")
        loads = [Load.of((part.num_tokens, part.start) for part in step.parts) for step in steps]
        seconds = np.array([step.end - step.begin for step in steps])
        knots = _knots([load.tokens for load in loads])
        rows = np.array([[*_hats(knots, load.tokens), load.sequences, load.attended] for load in loads])
        shares = non_negative(rows / seconds[:, None], np.ones(len(rows)))
        return cls(knots, shares[:-2], shares[-2], shares[-1])

    def __call__(self, load: Load) -> float:
        """Return the seconds."""
        if load.tokens not in self._curve:
            self._curve[load.tokens] = self._at(load.tokens)
        return self._curve[load.tokens] + self.per_sequence * load.sequences + self.per_pair * load.attended

    def _at(self, tokens: int) -> float:
        """Return the curve's seconds for so many tokens.

        Beyond its knots the curve neither falls nor rises faster than in proportion, whatever noise does to
        its slope.
        """
        knots, seconds = self.knots, self.at_knots
        inside = min(max(tokens, knots[0]), knots[-1])
        value = sum(h * s for h, s in zip(_hats(knots, inside), seconds, strict=True))
        if tokens <= knots[-1] or len(knots) == 1:
            return value
        slope = (seconds[-1] - seconds[-2]) / (knots[-1] - knots[-2])
        return value + (tokens - knots[-1]) * min(max(slope, 0.0), seconds[-1] / knots[-1])

    def errors(self, steps: Sequence[Step]) -> list[float]:
        """Return predicted over measured seconds, less 1, for each pass of a log."""
        loads = (Load.of((part.num_tokens, part.start) for part in step.parts) for step in steps)
        return [self(load) / (step.end - step.begin) - 1 for load, step in zip(loads, steps, strict=True)]


def _knots(tokens: Sequence[int]) -> list[int]:
    """Return the smallest and largest count of tokens, and powers of two between the two.

    Powers of two that are close to one of the ends are left out.
    """
    low, high = min(tokens), max(tokens)
    return sorted({low, high, *(2**i for i in range(20) if 1.5 * low < 2**i < high / 1.5)})


def _hats(knots: Sequence[int], tokens: int) -> list[float]:
    """Return the weights of the knots' values in the value at `tokens`, which lies between two knots."""
    weights = [0.0] * len(knots)
    if len(knots) == 1:
        return [1.0]
    right = min(max(1, int(np.searchsorted(knots, tokens))), len(knots) - 1)
    share = (tokens - knots[right - 1]) / (knots[right] - knots[right - 1])
    weights[right - 1], weights[right] = 1 - share, share
    return weights


def non_negative(rows: NDArray[np.float64], wanted: NDArray[np.float64]) -> list[float]:
    """Return the least-squares answer without negative numbers.

    A column whose answer would be below 0 is left out, the most negative one first.
    """
    scale = np.maximum(np.abs(rows).max(axis=0), 1e-300)
    kept = [j for j in range(rows.shape[1]) if np.abs(rows[:, j]).max() > 0]
    answer = np.zeros(rows.shape[1])
    while kept:
        found = np.linalg.lstsq(rows[:, kept] / scale[kept], wanted, rcond=None)[0]
        if found.min() >= 0:
            answer[kept] = found / scale[kept]
            break
        del kept[int(found.argmin())]
    return [float(x) for x in answer]
