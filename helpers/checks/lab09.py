"""Checks of lab 9, operator fusion and graph capture."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab09.count import COUNT
from helpers.checks.families.lab09.lines import LINES
from helpers.checks.families.lab09.norm import NORM
from helpers.checks.families.lab09.sizes import SIZES
from helpers.checks.families.lab09.stale import STALE
from helpers.checks.machinery.core import exercise
from helpers.checks.machinery.family import check_family

LAB = "09_operator_fusion"


@exercise(LAB, 1, "count the calls")
def check_count(answer: Any) -> None:
    """Check that `answer(groups, sizes, needed)` returns `(launches, bytes)` of a pass."""
    check_family(answer, COUNT)


@exercise(LAB, 2, "fuse add and norm")
def check_norm(answer: Any) -> None:
    """Check that `answer(x, residual, weight, eps)` returns the normed sum and the sum."""
    check_family(answer, NORM)


@exercise(LAB, 3, "choose the capture sizes")
def check_sizes(answer: Any) -> None:
    """Check that `answer(histogram, count)` returns at most `count` sizes with the fewest padded rows."""
    check_family(answer, SIZES)


@exercise(LAB, 4, "find the stale length")
def check_stale(answer: Any) -> None:
    """Check that `answer(first, second)` returns the arguments in which two captures differ."""
    check_family(answer, STALE)


@exercise(LAB, 5, "order the loops")
def check_lines(answer: Any) -> None:
    """Check that `answer(rows, columns, tile, per_line, kept)` returns how many cache lines are fetched."""
    check_family(answer, LINES)
