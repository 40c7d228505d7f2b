"""What a check is: a function that tries an answer, says in one line that it holds, or raises with the mistake named."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery import record
from helpers.checks.machinery.exercises import EXERCISES, Exercise


class CheckFailed(AssertionError):
    """An answer that does not hold: which property broke, on which input, expected and got, and a question to think about."""

    def __init__(
        self,
        broken: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        expected: object = None,
        got: object = None,
        hint: str = "",
    ):
        self.broken, self.hint = broken, hint
        lines = [broken]
        if arguments:
            lines.append(
                "  for:      " + ", ".join(f"{name}={describe(value)}" for name, value in arguments.items())
            )
        lines += [f"  expected: {expected}"] if expected is not None else []
        lines += [f"  got:      {got}"] if got is not None else []
        lines += [f"  {hint}"] if hint else []
        super().__init__("\n".join(lines))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message alone, because the frames are the check's, not the learner's.

        Without a colour: JupyterLab shows errors on red, where red words are hard to read.
        """
        return [str(self)]


Check = Callable[[Any], None]


def exercise(lab: str, number: int, title: str) -> Callable[[Check], Check]:
    """Makes a check of a function that raises CheckFailed: it names the exercise, reports success and records it."""
    item = Exercise(lab, number, title)
    EXERCISES.append(item)

    def decorate(body: Check) -> Check:
        @functools.wraps(body)
        def check(answer: Any) -> None:
            try:
                body(answer)
            except CheckFailed as failure:
                failure.args = (f"{item}: {failure.args[0]}",)
                raise
            record.add(item.lab, item.number)
            print(f"{item}: done.")

        return check

    return decorate


def require_callable(answer: Any) -> None:
    """CheckFailed unless the answer can be called."""
    if not callable(answer):
        raise CheckFailed(
            f"expected a function, got {describe(answer)}", hint="Was it given without calling it?"
        )


def require_number(
    got: Any,
    expected: float,
    arguments: Mapping[str, Any] | None = None,
    *,
    mistakes: Mapping[str, float | tuple[float, ...]] | None = None,
    rel: float = 1e-9,
    reveal: bool = True,
) -> None:
    """CheckFailed unless `got` is `expected`, to `rel`; `mistakes` maps a question to the wrong value, or values, that it explains.

    `reveal=False` keeps the expected value out of the message, for exercises that ask for a number.
    """
    shown = f"{expected:,}" if reveal else None
    if got is None or got is Ellipsis:
        hint = "Replace the dots by your answer." if got is Ellipsis else "Is a return missing?"
        raise CheckFailed("there is no value yet", arguments, got=got, hint=hint)
    if isinstance(got, Tensor) and not got.ndim:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, numbers.Real):
        raise CheckFailed(f"expected a number, got {describe(got)}", arguments, expected=shown)
    value = _as_float(got)
    if math.isfinite(value) and math.isclose(value, expected, rel_tol=rel, abs_tol=1e-12):
        return
    hint = next(
        (
            question
            for question, wrong in (mistakes or {}).items()
            if _is_one_of(value, wrong, max(rel, 1e-6))
        ),
        "",
    )
    raise CheckFailed("the value is wrong", arguments, expected=shown, got=describe(got), hint=hint)


def require_tensor(
    got: Any,
    expected: Tensor,
    arguments: Mapping[str, Any] | None = None,
    *,
    what: str = "the result",
    hint: str = "",
    atol: float = 1e-5,
) -> None:
    """CheckFailed unless `got` is a tensor of that shape and type whose values lie within `atol`; `hint` is for wrong values."""
    if got is None:
        raise CheckFailed(f"{what}: nothing was returned", arguments, hint="Is a return missing?")
    if not isinstance(got, Tensor):
        raise CheckFailed(f"{what}: expected a tensor", arguments, got=describe(got))
    if got.shape != expected.shape or got.dtype != expected.dtype:
        shown = describe(expected)
        raise CheckFailed(
            f"{what}: wrong in shape or type", arguments, expected=shown, got=describe(got), hint=hint
        )
    wrong = ~torch.isclose(got.double(), expected.double(), rtol=0, atol=atol, equal_nan=False)
    if bool(wrong.any()):
        place = tuple(wrong.nonzero()[0].tolist())
        at = f" at {list(place)}, the first of {int(wrong.sum())} wrong places of {wrong.numel()}"
        raise CheckFailed(
            f"{what}: wrong values",
            arguments,
            expected=f"{expected[place].item()}{at}",
            got=got[place].item(),
            hint=hint,
        )


def _as_float(number: numbers.Real) -> float:
    """The number as a float; one too large for that counts as infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _is_one_of(value: float, wrong: float | tuple[float, ...], rel: float) -> bool:
    """Whether the value is one of the wrong ones."""
    several = wrong if isinstance(wrong, tuple) else (wrong,)
    return any(math.isclose(value, each, rel_tol=rel) for each in several)


def describe(value: object) -> str:
    """A value in about 80 characters: numbers with separators, tensors and models by kind and size."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number beyond 1e30" if abs(value) >= 1e30 else f"{value:,}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
        more = [f"and {len(value) - 3} more"] if len(value) > 3 else []
        return f"{type(value).__name__} of " + "; ".join([*map(describe, value[:3]), *more])
    name = getattr(value, "name", None)
    text = name if isinstance(name, str) else _repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _repr(value: object) -> str:
    """The value's repr, also when that is broken."""
    try:
        return repr(value)
    except Exception:  # a learner's class may do anything
        return f"a {type(value).__name__} that cannot be shown"
