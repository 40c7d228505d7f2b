"""The smallest case in which an answer fails: a failing case is made smaller as long as the answer fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

Case = dict[str, Any]
MOST = 250
"""Smaller cases that are tried."""


class HasCase(Protocol):
    """What holds a case."""

    case: Case


T = TypeVar("T", bound=HasCase)


def smallest(
    failed: Sequence[T], valid: Callable[..., bool] | None, together: tuple[str, ...],
    fails: Callable[[Case], T | None],
) -> T:  # fmt: skip
    """Return the smallest of what failed, or one with a smaller case still, for which `fails` gives what became of it.

    `valid` says whether a case is one of the exercise; None stands for an exercise whose cases are not made smaller.
    """
    best = min(failed, key=lambda one: size(one.case))
    left = MOST if valid is not None else 0
    found = True
    while found and left > 0:
        found = False
        for case in _smaller(best.case, together):
            if left <= 0:
                break
            if size(case) >= size(best.case) or not _is_valid(valid, case):
                continue
            left -= 1
            if (one := fails(case)) is not None:
                best, found = one, True
                break
    return best


def size(case: Case) -> int:
    """Return how much there is to read in a case."""
    return len(repr(case))


def _is_valid(valid: Callable[..., bool] | None, case: Case) -> bool:
    """Return whether the exercise allows the case; what cannot even be asked about is not allowed."""
    try:
        return valid is not None and valid(**case)
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return False


def _smaller(case: Case, together: tuple[str, ...]) -> Iterator[Case]:
    """Yield cases with one thing taken away or made smaller."""
    if together:
        for i in range(len(case[together[0]])):
            yield {**case, **{name: _without(case[name], i) for name in together}}
    for name, value in case.items():
        for less in _less(value):
            yield {**case, name: less}


def _without(values: Any, i: int) -> Any:
    """Return a list without one of its entries."""
    return values[:i] + values[i + 1 :]


def _less(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yield smaller values of the same kind."""
    if isinstance(value, bool) or value is None or depth > 3:
        return
    if type(value) is int:
        yield from (less for less in (0, 1, 2, value // 2, value - 1) if 0 <= less < value)
    elif type(value) is float:
        yield from (less for less in (0.0, 1.0, float(round(value)), value / 2) if less != value)
    elif isinstance(value, list | tuple):
        half = len(value) // 2
        if half > 1:
            yield from (value[:half], value[half:])
        yield from (_without(value, i) for i in range(len(value)))
        for i, item in enumerate(value):
            for less in _less(item, depth + 1):
                yield type(value)([*value[:i], less, *value[i + 1 :]])
    elif isinstance(value, dict):
        yield from ({k: v for k, v in value.items() if k != key} for key in value)
        for key, item in value.items():
            for less in _less(item, depth + 1):
                yield {**value, key: less}
