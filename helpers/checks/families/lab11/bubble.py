"""Exercise 11.3: stages that wait."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part, Wrong


def idle(
    seconds: Sequence[float], groups: int, passes: int, *, waits_for_token: bool = True, one_at_a_time: bool = True,
    turns: bool = True, stages: str = "all", share: str = "idle", costs: Callable[[Sequence[float]], float] | None = None,
    whole: Callable[[float], float] = float,
) -> float:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    seconds = [whole(one) or 1.0 for one in seconds]
    seconds = [costs(seconds)] * len(seconds) if costs else list(seconds)
    free, ready = [0.0] * len(seconds), [0.0] * groups
    order = [group for _ in range(passes) for group in range(groups)]
    for group in order if turns else sorted(order):
        at = ready[group] if waits_for_token else 0.0
        for stage, cost in enumerate(seconds):
            at = free[stage] = (max(at, free[stage]) if one_at_a_time else at) + cost
        ready[group] = at
    end = max(free)
    busy = {
        "all": sum(seconds) / len(seconds),
        "first": seconds[0],
        "last": seconds[-1],
        "slowest": max(seconds),
    }
    used = groups * passes * busy[stages] / end
    return {"idle": 1 - used, "busy": used, "seconds": end * (1 - used), "end": end}[share]


def _idle(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: idle(**case, **options)


def _in_a_row(seconds: Sequence[float], groups: int, passes: int) -> float:
    """Begin each pass when the one before has ended."""
    return 1 - 1 / len(seconds)


def _formula(count: Callable[[int, int], int]) -> Wrong:
    """Return the formula for a training step of so many micro-batches."""

    def wrong(seconds: Sequence[float], groups: int, passes: int) -> float:
        return (len(seconds) - 1) / (count(groups, passes) + len(seconds) - 1)

    return wrong


def _in_the_long_run(seconds: Sequence[float], groups: int, passes: int) -> float:
    """Leave out the beginning and the end."""
    return max(0.0, 1 - groups / len(seconds))


def _before_the_first(seconds: Sequence[float], groups: int, passes: int) -> float:
    """Count a stage's time from its first pass."""
    total = idle(seconds, groups, passes, share="end")
    waited = sum(sum(seconds[:stage]) for stage in range(len(seconds)))
    return 1 - groups * passes * sum(seconds) / (len(seconds) * total - waited)


def bubble_cases(draw: random.Random) -> Iterator[Case]:
    """Yield pipelines: one stage, equal stages and others, fewer groups than stages and more, one pass and many."""
    for seconds, groups, passes in (
        ([1.0], 1, 1), ([1.0, 1.0], 1, 1), ([1.0, 1.0], 2, 8), ([1.0, 1.0, 1.0], 2, 24), ([2.0, 1.0], 2, 3), ([1.0, 3.0], 4, 2),
        ([1.0, 1.0], 1, 5), ([2.0, 2.0, 5.0], 3, 4), ([4.0], 3, 2), ([3.0, 1.0], 1, 2),
        ([0.5, 0.25], 2, 3), ([1.5, 2.25, 0.75], 2, 2),
    ):  # fmt: skip
        yield {"seconds": seconds, "groups": groups, "passes": passes}
    while True:
        count = draw.randrange(1, 6)
        seconds = [float(draw.choice((1, 1, 2, 3, 5))) for _ in range(count)]
        if draw.random() < 0.4:
            seconds = seconds[:1] * count
        yield {
            "seconds": seconds,
            "groups": draw.randrange(1, 8),
            "passes": draw.randrange(1, draw.choice((3, 20))),
        }


BUBBLE = Family(
    idle,
    bubble_cases,
    (Part(mistakes={
        "That is the share in which stages compute. How much is left?": _idle(share="busy"),
        "A share has no unit. Is it divided by the whole time?": (_idle(share="seconds"), _idle(share="end")),
        "A group's next pass needs the token that the last stage has made. Does it begin before?": _idle(waits_for_token=False),
        "A stage computes one group at a time. Does it compute two here?": _idle(one_at_a_time=False),
        "Does each pass begin when the one before has ended? While one stage computes, another group can be in the next one.": _in_a_row,
        "Groups take turns. Does one group make all its passes before the next one begins?": _idle(turns=False),
        "That formula is for micro-batches that wait for no token, as in training. Who waits for whom here?": (
            _formula(lambda groups, passes: groups), _formula(lambda groups, passes: groups * passes)),
        "That holds for equal stages in the long run. What do the beginning and the end add?": _in_the_long_run,
        "Is it one stage alone? All of them count.": tuple(_idle(stages=one) for one in ("first", "last", "slowest")),
        "Stages take different times. Are they alike here?": _idle(costs=max),
        "Seconds need not be whole. Are they rounded?": (_idle(whole=math.floor), _idle(whole=round), _idle(whole=math.ceil)),
        "Does a stage's time begin with its first pass? It is idle before, too.": _before_the_first,
        "Are there more passes than one? The next one begins before all groups have ended this one.": lambda seconds, groups, passes: idle(seconds, groups, 1),
    }),),
    valid=lambda seconds, groups, passes: len(seconds) >= 1 and min(seconds) > 0 and min(groups, passes) >= 1,
)  # fmt: skip
