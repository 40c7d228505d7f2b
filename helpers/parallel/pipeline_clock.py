"""A pipeline on paper: which stage computes which group when, and how much of the time a stage is idle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple


class Slot(NamedTuple):
    """One stage's part of one pass of one group; times in the unit of the costs."""

    stage: int
    group: int
    number: int
    """Passes of this group before this one."""
    begin: Fraction
    end: Fraction


def pipeline_slots(
    costs: Sequence[float | Fraction], order: Iterable[int], hop: float | Fraction = 0
) -> list[Slot]:
    """Return all parts of the passes of these groups, in the order in which each stage computes them.

    `costs[stage]` is the time of a stage's part, `hop` that of a message. A part begins when its stage is free and its
    input is there: the stage before has sent it, or the last stage the tokens of the group's pass before.
    Raises ValueError for no stage, a stage's time that is not above 0, and a message's below 0.
    """
    if not costs or min(costs) <= 0 or hop < 0:
        raise ValueError(f"stages take more than 0 and messages 0 or more, got {list(costs)} and {hop}")
    free = [Fraction(0)] * len(costs)
    ready: dict[int, Fraction] = {}
    passes: dict[int, int] = {}
    slots = []
    for group in order:
        at, number = ready.get(group, Fraction(0)), passes.get(group, 0)
        for stage, cost in enumerate(costs):
            begin = max(at, free[stage])
            free[stage] = begin + Fraction(cost)
            slots.append(Slot(stage, group, number, begin, free[stage]))
            at = free[stage] + Fraction(hop)
        ready[group], passes[group] = at, number + 1
    return slots


def idle_shares(slots: Sequence[Slot]) -> list[Fraction]:
    """Return each stage's idle share of the time from 0 to the last part's end, exactly."""
    end = max(slot.end for slot in slots)
    stages = 1 + max(slot.stage for slot in slots)
    busy = [sum((s.end - s.begin for s in slots if s.stage == stage), Fraction(0)) for stage in range(stages)]
    return [1 - each / end for each in busy]
