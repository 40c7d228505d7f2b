"""Exercise 11.4: layers for stages, of which the last one has the head."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.families.lab11.numbers import listed_whole
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong


def heaviest(split: Sequence[int], head: float) -> float:
    """Return the weight of the heaviest stage; the last stage has the head."""
    return max([*split[:-1], split[-1] + head])


def best(layers: int, head: float, stages: int) -> float:
    """Return the least weight that the heaviest stage can have."""
    if stages == 1:
        return layers + head
    lasts = range(1, layers - stages + 2)
    return min(max(-(-(layers - last) // (stages - 1)), last + head) for last in lasts)


def _split(rule: Callable[[int, float, int], Sequence[int]]) -> Wrong:
    """Return how heavy the heaviest stage of a rule's split is."""
    return lambda layers, head, stages: heaviest(rule(layers, head, stages), head)


def even(total: int, parts: int) -> list[int]:
    """Return the most even sizes, larger ones first."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def _optimal(layers: int, head: float, stages: int) -> list[int]:
    """Return a best split."""
    splits = ([*even(layers - last, stages - 1), last] for last in range(1, layers - stages + 2))
    return [layers] if stages == 1 else min(splits, key=lambda split: heaviest(split, head))


def _least_last(layers: int, head: float, stages: int) -> list[int]:
    """Give the last stage one layer."""
    return [*even(layers - 1, stages - 1), 1] if stages > 1 else [layers]


def _rounded(cut: Callable[[float], int]) -> Callable[[int, float, int], list[int]]:
    """Return the rule that gives the last stage its even share without the head, rounded, and at least one layer."""

    def rule(layers: int, head: float, stages: int) -> list[int]:
        if stages == 1:
            return [layers]
        last = min(max(1, cut((layers + head) / stages - head)), layers - stages + 1)
        return [*even(layers - last, stages - 1), last]

    return rule


def balance_cases(draw: random.Random) -> Iterator[Case]:
    """Yield models: the course's, one stage, as many stages as layers, heads that weigh nothing, a part or all."""
    for layers, head, stages in (
        (30, 8.0, 2), (30, 8.0, 3), (1, 3.0, 1), (4, 0.0, 2), (4, 8.0, 4), (5, 0.5, 2), (7, 2.0, 3), (28, 1.2, 4), (6, 20.0, 3),
        (61, 0.6, 8),
    ):  # fmt: skip
        yield {"layers": layers, "head": head, "stages": stages}
    while True:
        layers = draw.randrange(1, draw.choice((8, 40, 90)))
        head = draw.choice((0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.75, 8.0, float(draw.randrange(0, 30))))
        yield {"layers": layers, "head": head, "stages": draw.randrange(1, min(layers, 9) + 1)}


def balance_kind(got: Any, case: Case) -> tuple[float]:
    """Return the weight of the heaviest stage. Raises CheckFailed when that is no split."""
    split = listed_whole(got, case, "expected a list of whole numbers, the layers of each stage")
    layers, stages = case["layers"], case["stages"]
    if len(split) != stages:
        raise CheckFailed(f"there are {stages} stages, the list has {len(split)}", case, got=describe(split))
    if sum(split) != layers:
        raise CheckFailed(
            f"there are {layers} layers, the stages have {sum(split)}", case, got=describe(split)
        )
    if min(split) < 1:
        hint = "What does a stage do that has nothing to compute?"
        raise CheckFailed("each stage has a layer at least", case, got=describe(split), hint=hint)
    return (heaviest(split, case["head"]),)


BALANCE = Family(
    best,
    balance_cases,
    (Part("heaviest stage", broken="another split makes it lighter", mistakes={
        "That is an even split of the layers. What does the head add to the last stage?": (
            _split(lambda layers, head, stages: even(layers, stages)), _split(lambda layers, head, stages: even(layers, stages)[::-1])),
        "The head is in the last stage. Is the first one spared?": _split(lambda layers, head, stages: _optimal(layers, head, stages)[::-1]),
        "Does the head weigh as much as one layer? `head` says how many.": _split(lambda layers, head, stages: _optimal(layers, 1.0, stages)),
        "Has the last stage as little as possible? Then the others have too much.": _split(_least_last),
        "Does the last stage get what its even share leaves, rounded? Rounded up or down, what becomes of the others?": (
            _split(_rounded(int)), _split(_rounded(round)), _split(_rounded(lambda x: -int(-x // 1)))),
    }),),
    kind=balance_kind,
    valid=lambda layers, head, stages: 1 <= stages <= layers and head >= 0,
)  # fmt: skip
