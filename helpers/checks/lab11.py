"""Checks of lab 11, tensor and pipeline parallelism."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab11.balance import BALANCE
from helpers.checks.families.lab11.bubble import BUBBLE
from helpers.checks.families.lab11.choose import CHOOSE
from helpers.checks.families.lab11.rows import ROWS
from helpers.checks.families.lab11.summed import SUMMED, as_ranks
from helpers.checks.machinery.core import exercise
from helpers.checks.machinery.family import check_family

__all__ = ["LAB", "as_ranks", "check_balance", "check_choose", "check_idle", "check_mlp", "check_rows"]
LAB = "11_parallelism"


@exercise(LAB, 1, "split a layer")
def check_rows(answer: Any) -> None:
    """Check that `answer(heads, kv_heads, head_dim, world, rank)` returns a rank's rows of a fused matrix."""
    check_family(answer, ROWS)


@exercise(LAB, 2, "where the sum goes")
def check_mlp(answer: Any) -> None:
    """Check that `answer(x, residual, up, down, bias, rank, all_reduce)` returns the stream behind an MLP, on each rank."""
    check_family(answer, SUMMED)


@exercise(LAB, 3, "the bubble of a schedule")
def check_idle(answer: Any) -> None:
    """Check that `answer(seconds, groups, passes)` returns the idle share of a pipeline's stages."""
    check_family(answer, BUBBLE)


@exercise(LAB, 4, "balance the stages")
def check_balance(answer: Any) -> None:
    """Check that `answer(layers, head, stages)` returns the layers of each stage, the heaviest as light as possible."""
    check_family(answer, BALANCE)


@exercise(LAB, 5, "choose ranks, stages and replicas")
def check_choose(answer: Any) -> None:
    """Check that `answer(model, machine, limit)` returns the plan that serves the most requests, or None."""
    check_family(answer, CHOOSE)
