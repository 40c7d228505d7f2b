"""Exercise 12.4: replicas and a router for an objective."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Seen = tuple[float, float] | None
Choice = dict[str, Any]
Plan = tuple[int, str] | None


def plan(
    choices: Sequence[Choice], ttft: float, tpot: float, share: float, *, both: str = "each", refused: str = "missed", strict: bool = False,
    enough: str = "share", order: str = "replicas", tie: str = "met", first: bool = True,
    zero: bool = True, digits: int | None = None, percent: bool = False,
) -> Plan:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    best: tuple[Any, ...] | None = None
    found: Plan = None
    for place, choice in enumerate(choices):
        requests = [one if zero or one is None or min(one) > 0 else None for one in choice["requests"]]
        met = _share(requests, ttft, tpot, both, refused, strict)
        met = met if digits is None else round(met, digits)
        met = int(100 * met) / 100 if percent else met
        if not (met > share if enough == "above" else met >= share) and enough != "any":
            continue
        key: tuple[Any, ...] = (
            choice["replicas"] if order == "replicas" else -choice["replicas"] if order == "most" else 0,
            {"met": -met, "least": met, "none": 0, "number": -round(met * len(requests))}[tie],
            place if first else -place,
        )
        if order == "met":
            key = (-met, choice["replicas"], key[2])
        if order == "listed":
            key = (place,)
        if best is None or key < best:
            best, found = key, (choice["replicas"], choice["router"])
    return found


def _share(
    requests: Sequence[Seen], ttft: float, tpot: float, both: str, refused: str, strict: bool
) -> float:
    """Return the share of the requests that met the objective."""
    served = [one for one in requests if one is not None]
    count = len(requests) if refused in ("missed", "met") else len(served)
    in_time = [(a < ttft, b < tpot) if strict else (a <= ttft, b <= tpot) for a, b in served]
    if both == "apart":
        hits = min(sum(a for a, _ in in_time), sum(b for _, b in in_time))
    else:
        kinds = {
            "each": lambda a, b: a and b,
            "either": lambda a, b: a or b,
            "ttft": lambda a, b: a,
            "tpot": lambda a, b: b,
        }
        hits = sum(kinds[both](a, b) for a, b in in_time)
    if refused == "met":
        hits += len(requests) - len(served)
    return hits / count if count else 1.0 if refused == "left out" else 0.0


def _means(choices: Sequence[Choice], ttft: float, tpot: float, share: float) -> Plan:
    """Compare means with the objective."""
    good = []
    for place, choice in enumerate(choices):
        served = [one for one in choice["requests"] if one is not None]
        if served and all(
            sum(one[i] for one in served) / len(served) <= bound for i, bound in enumerate((ttft, tpot))
        ):
            good.append((choice["replicas"], place, choice["router"]))
    return (min(good)[0], min(good)[2]) if good else None


def _plan(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: plan(**case, **options)


def plan_cases(draw: random.Random) -> Iterator[Case]:
    """Yield choices: none, none good enough, several with as many replicas, refused requests, times on the bound."""
    good, late, slow = (0.5, 0.0625), (2.0, 0.0625), (0.5, 0.25)

    def choice(replicas: int, router: str, *requests: Seen) -> Choice:
        return {"replicas": replicas, "router": router, "requests": list(requests)}

    for choices, share in (
        ([], 0.5), ([choice(1, "turn", good)], 1.0), ([choice(1, "turn", late)], 0.5), ([choice(2, "turn", good), choice(1, "turn", good)], 1.0),
        ([choice(1, "turn", good, late), choice(1, "bound", good, good)], 0.5), ([choice(1, "turn", late, slow), choice(2, "turn", good, good)], 0.5),
        ([choice(1, "turn", good, None), choice(2, "turn", good, good)], 0.75), ([choice(1, "turn", None, None)], 0.5),
        ([choice(1, "a", good, late), choice(1, "b", good, slow)], 0.5), ([choice(3, "a", good, good), choice(2, "b", good, late)], 0.5),
        ([choice(1, "a", (1.0, 0.125), late)], 0.5),
        ([choice(1, "a", (0.0, 0.0625), (0.5, 0.0))], 1.0), ([choice(1, "a", good, good, late)], 0.67), ([choice(1, "a", good, good, late)], 0.7),
        ([choice(1, "a", good, good, late, late), choice(1, "b", good)], 0.5),
        ([choice(1, "a", (0.0, 0.0))], 1.0), ([choice(1, "a", *[good] * 7, late)], 0.875), ([choice(1, "a", good, late, late)], 1 / 3),
    ):  # fmt: skip
        yield {"choices": choices, "ttft": 1.0, "tpot": 0.125, "share": share}
    while True:
        count, choices = draw.choice((1, 2, 4, 8, 20)), []
        for _ in range(draw.randrange(1, 6)):
            ease = draw.choice((0.3, 0.6, 0.9, 1.0))
            requests: list[Seen] = [
                None if draw.random() < 0.1 else (
                    draw.choice((0.25, 0.5, 1.0)) if draw.random() < ease else draw.choice((1.25, 2.0, 9.0)),
                    draw.choice((0.0625, 0.125)) if draw.random() < ease else draw.choice((0.1875, 0.5)),
                )
                for _ in range(count)
            ]  # fmt: skip
            choices.append(choice(draw.randrange(1, 4), draw.choice(("turn", "tokens", "bound")), *requests))
        share = draw.choice((0.25, 0.5, 0.75, 0.875, 0.9, 1.0))
        yield {"choices": choices, "ttft": 1.0, "tpot": 0.125, "share": share}


def plan_kind(got: Any, case: Case) -> tuple[Plan]:
    """Return the plan. Raises CheckFailed when it is something else."""
    got = plain(got)
    if got is Ellipsis:
        raise CheckFailed("there is no value yet", case, got=got, hint="Replace the dots by your answer.")
    pair = isinstance(got, tuple | list) and len(got) == 2 and is_whole(got[0]) and isinstance(got[1], str)
    if got is not None and not pair:
        raise CheckFailed("expected a pair, replicas and router, or None", case, got=describe(got))
    return (None if got is None else (got[0], got[1]),)


def _is_list(choices: Sequence[Choice], ttft: float, tpot: float, share: float) -> bool:
    """Return whether every choice has its fields and requests, and the numbers mean something."""
    whole = all(set(one) == {"replicas", "router", "requests"} and one["requests"] for one in choices)
    if not whole or any(one["replicas"] < 1 or not one["router"] for one in choices):
        return False
    times = [one for choice in choices for one in choice["requests"] if one is not None]
    return all(len(pair) == 2 and min(pair) >= 0 for pair in times) and ttft > 0 < tpot and 0 < share <= 1


PLAN = Family(
    plan,
    plan_cases,
    (Part(mistakes={
        "A request is well served when both of its times are. Are the two counted apart?": _plan(both="apart"),
        "A request is well served when both of its times are. Is one enough?": _plan(both="either"),
        "Does the time per token count?": _plan(both="ttft"),
        "Does the time to the first token count?": _plan(both="tpot"),
        "A refused request was not served well. Is it left out of the share?": (_plan(refused="left out"), _plan(refused="left away")),
        "A refused request was not served well. Is it counted as if it were?": _plan(refused="met"),
        "A time on the bound is within it. Is it refused?": _plan(strict=True),
        "A share that is just reached is enough. Is more asked for?": _plan(enough="above"),
        "Does the share decide which choices are good enough?": _plan(enough="any"),
        "Of those that are good enough, the one with the fewest replicas is asked for. Is it the one that serves best?": _plan(order="met"),
        "The fewest replicas are asked for. Is it the first choice that is good enough?": _plan(order="listed"),
        "The fewest replicas are asked for. Are these the most?": _plan(order="most"),
        "Of equally many replicas, the choice that serves more requests well is better. Is the first one taken?": _plan(tie="none"),
        "Of equally many replicas, the choice that serves more requests well is better. Is it the one that serves fewer?": _plan(tie="least"),
        "Choices may have different numbers of requests. Is a number compared where the share counts?": _plan(tie="number"),
        "Is the share rounded? 2 of 3 are less than 0.67.": (_plan(digits=2), _plan(digits=1)),
        "Is the share cut to whole per cent? 7 of 8 are 0.875.": _plan(percent=True),
        "A time of 0 is a time: an answer of one token has no second one. Is it taken for refused?": _plan(zero=False),
        "Of equal choices the first is taken. Is it the last?": _plan(first=False),
        "A mean hides those that waited. What share of the requests was in time?": _means,
    }),),
    kind=plan_kind,
    valid=_is_list,
)  # fmt: skip
