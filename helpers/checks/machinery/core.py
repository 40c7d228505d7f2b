"""What a check is: a function that tries an answer, says in one line that it holds, or raises with the mistake named."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery import limit, process, record
from helpers.checks.machinery.exercises import EXERCISES, Exercise
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.own_code import require_own
from helpers.checks.machinery.values import as_float, is_number, plain

__all__ = [
    "Check", "CheckFailed", "describe", "exercise", "require_callable", "require_finite", "require_number",
    "require_tensor",
]  # fmt: skip
Check = Callable[[Any], None]


def exercise(lab: str, number: int, title: str) -> Callable[[Check], Check]:
    """Make a check of a function that raises CheckFailed: it names the exercise, reports success and records it."""
    item = Exercise(lab, number, title)
    EXERCISES.append(item)

    def decorate(body: Check) -> Check:
        @functools.wraps(body)
        def check(answer: Any) -> None:
            try:
                require_own(answer)
                if process.possible() and process.watch() is None:
                    process.isolated(lambda: body(answer), limit.SECONDS)
                else:
                    body(answer)
            except CheckFailed as failure:
                failure.args = (f"{item}: {failure.args[0]}",)
                raise
            record.add(item.lab, item.number)
            print(f"{item}: done.")

        return check

    return decorate


def require_callable(answer: Any) -> None:
    """Raise CheckFailed unless the answer can be called."""
    if not callable(answer):
        raise CheckFailed(
            f"expected a function, got {describe(answer)}", hint="Was it given without calling it?"
        )


def require_finite(got: Any, arguments: Mapping[str, Any] | None = None, shown: str | None = None) -> Any:
    """Return a number as Python's own. Raises CheckFailed for anything else; infinity is a number."""
    if got is None or got is Ellipsis:
        hint = "Replace the dots by your answer." if got is Ellipsis else "Is a return missing?"
        raise CheckFailed("there is no value yet", arguments, got=got, hint=hint)
    value = plain(got)
    if not is_number(value):
        raise CheckFailed(f"expected a number, got {describe(got)}", arguments, expected=shown)
    return value


def require_number(
    got: Any,
    expected: float,
    arguments: Mapping[str, Any] | None = None,
    *,
    mistakes: Mapping[str, float | tuple[float, ...]] | None = None,
    rel: float = 1e-9,
    reveal: bool = True,
) -> None:
    """Raise CheckFailed unless `got` is `expected`, to `rel`; `mistakes` maps a question to the wrong values it explains.

    `reveal=False` keeps the expected value out of the message, for exercises that ask for a number.
    """
    shown = f"{expected:,}" if reveal else None
    value = as_float(require_finite(got, arguments, shown))
    if math.isfinite(value) and math.isclose(value, expected, rel_tol=rel, abs_tol=1e-12):
        return
    wrong = (mistakes or {}).items()
    hint = next((words for words, values in wrong if _is_one_of(value, values, max(rel, 1e-6))), "")
    raise CheckFailed("the value is wrong", arguments, expected=shown, got=describe(plain(got)), hint=hint)


def require_tensor(
    got: Any,
    expected: Tensor,
    arguments: Mapping[str, Any] | None = None,
    *,
    what: str = "the result",
    hint: str = "",
    atol: float = 1e-5,
) -> None:
    """Raise CheckFailed unless `got` is a tensor of that shape and type whose values lie within `atol`."""
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
        at = f" at {list(place)}, the first of {int(wrong.sum())} wrong values of {wrong.numel()}"
        raise CheckFailed(
            f"{what}: wrong values",
            arguments,
            expected=f"{expected[place].item()}{at}",
            got=got[place].item(),
            hint=hint,
        )


def _is_one_of(value: float, wrong: float | tuple[float, ...], rel: float) -> bool:
    """Return whether the value is one of the wrong ones."""
    several = wrong if isinstance(wrong, tuple) else (wrong,)
    return any(math.isclose(value, each, rel_tol=rel) for each in several)
