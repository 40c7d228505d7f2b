"""Checks of lab 10, quantisation and pruning."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab10.block import BLOCK
from helpers.checks.families.lab10.budget import BUDGET
from helpers.checks.families.lab10.cache import CACHE
from helpers.checks.families.lab10.groups import BY_GROUPS
from helpers.checks.families.lab10.pack import PACK
from helpers.checks.families.lab10.smooth import SMOOTH
from helpers.checks.machinery.core import exercise
from helpers.checks.machinery.family import check_family

LAB = "10_quantisation"


@exercise(LAB, 1, "quantise by groups")
def check_groups(answer: Any) -> None:
    """Check that `answer(weight, group)` returns codes, scales and offsets of groups, as Ascend reads them."""
    check_family(answer, BY_GROUPS)


@exercise(LAB, 2, "pack two codes in a byte")
def check_pack(answer: Any) -> None:
    """Check that `answer(codes)` returns bytes with two codes each."""
    check_family(answer, PACK)


@exercise(LAB, 3, "find the outliers and smooth them")
def check_smooth(answer: Any) -> None:
    """Check that `answer(x, weight, ratio)` returns the loud channels, and both factors of an equal product."""
    check_family(answer, SMOOTH)


@exercise(LAB, 4, "mend the int8 MLP")
def check_block(answer: Any) -> None:
    """Check that `answer(x, gate_up, gate_up_scale, down, down_scale)` returns the output of an int8 MLP."""
    check_family(answer, BLOCK)


@exercise(LAB, 5, "spend a budget")
def check_budget(answer: Any) -> None:
    """Check that `answer(parts, formats, budget)` returns the choice of formats that costs least and fits."""
    check_family(answer, BUDGET)


@exercise(LAB, 6, "when int8 keys and values help")
def check_cache(answer: Any) -> None:
    """Check that `answer(heads, head_dim, ...)` returns how many more tokens fit, and from which length on int8 pays."""
    check_family(answer, CACHE)
