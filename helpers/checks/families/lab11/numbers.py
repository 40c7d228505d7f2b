"""Results that are whole numbers, one or a list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case
from helpers.checks.machinery.values import is_whole, plain


def whole_numbers(what: str) -> Callable[[Any, Case], tuple[list[int]]]:
    """Return what turns a result into one part, a list of whole numbers; `what` they count is said in messages."""

    def kind(got: Any, case: Case) -> tuple[list[int]]:
        return (listed_whole(got, case, f"expected a list of whole numbers, the {what}"),)

    return kind


def listed_whole(got: Any, case: Case, broken: str) -> list[int]:
    """Return whole numbers as a list. Raises CheckFailed, in these words, for anything else."""
    got = got.tolist() if isinstance(got, Tensor) else plain(got)
    if got is None or got is Ellipsis:
        hint = "Replace the dots by your answer." if got is Ellipsis else "Is a return missing?"
        raise CheckFailed("there is no list yet", case, got=got, hint=hint)
    if isinstance(got, list | tuple):
        got = [int(n) if isinstance(n, float) and n.is_integer() else n for n in got]
    if not isinstance(got, list) or not all(is_whole(number) for number in got):
        raise CheckFailed(broken, case, got=describe(got))
    return got
