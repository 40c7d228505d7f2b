"""Exercise 8.4: streams of short jobs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part, Wrong


def begins(
    free: float, short: float, long: float, gap: float, ageing: float | None = None, *,
    ahead: Callable[[float, float, float, float], bool] = lambda at, a, s, n: at + a * s < a * n,
    here: Callable[[float, float], bool] = lambda at, now: at <= now, most: float = math.inf, given_up: float = math.inf,
    rounds: float = math.inf, from_zero: bool = False,
) -> float:  # fmt: skip
    """Return the right answer; with an option changed, a wrong one."""
    now, k = free, 0 if from_zero else 1
    endless = ageing is None or ahead is _ALWAYS
    while here(k * gap, now) and (ageing is None or ahead(k * gap, ageing, short, long)):
        if endless and short >= gap and k > 2:
            return math.inf
        if k >= most:
            return given_up if given_up == math.inf else now
        now, k = now + short, k + 1
    return now


def _always(at: float, a: float, s: float, n: float) -> bool:
    """Say that every short job goes first."""
    return True


_ALWAYS = _always


def _begins(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: begins(**case, **options)


def begin_cases(draw: random.Random) -> Iterator[Case]:
    """Yield streams, in numbers whose sums are exact: nothing there, a few, thousands, no end; all with ageing and without."""
    for free, short, long, gap, ageing in (
        (10.25, 0.5, 8.0, 1.0, None), (0.5, 2.0, 9.0, 1.0, None), (7.0, 1.5, 20.0, 1.5, None), (3.25, 3.0, 10.0, 1.0, None),
        (1.0, 0.25, 4.0, 1.0, None), (40.25, 0.5, 8.0, 1.0, 0.75), (7.25, 2.0, 10.0, 1.0, 1.5), (2.25, 2.0, 10.0, 1.0, 1.5),
        (10.25, 0.5, 4.0, 1.0, 8.0), (5.25, 2.0, 6.0, 1.0, 1.0), (500.0, 0.5, 9.0, 1.0, None), (2000.0, 0.75, 9.0, 1.0, None),
        (6000.0, 0.5, 4.0, 1.0, None), (0.25, 1.0, 2.0, 8.0, 4.0), (9.0, 2.0, 3.0, 1.0, 4096.0),
    ):  # fmt: skip
        yield {"free": free, "short": short, "long": long, "gap": gap, "ageing": ageing}
    while True:
        grid = draw.choice((1, 4, 64))
        short, gap = draw.randrange(1, 5 * grid) / grid, draw.randrange(1, 4 * grid) / grid
        long = short + draw.randrange(1, 12 * grid) / grid
        free = draw.choice((draw.randrange(1, 12 * grid), draw.randrange(1, 80 * grid))) / grid
        ageing = draw.choice((None, None, *(2.0**n for n in range(-3, 5))))
        jobs = (
            free / (gap - short) if ageing is None and gap > short else ageing * long / gap if ageing else 0
        )
        if jobs < 3000:
            yield {"free": free, "short": short, "long": long, "gap": gap, "ageing": ageing}


def _is_stream(free: float, short: float, long: float, gap: float, ageing: float | None) -> bool:
    """Return whether the numbers are above 0 and exact enough, and the long job is the longer one."""
    numbers = [free, short, long, gap, *([] if ageing is None else [ageing])]
    return short < long and all(n > 0 and n * 64 == int(n * 64) for n in numbers) and long < 100


HERE = "A job that comes at the very moment at which the seat becomes free is there. Does it wait?"


def begin_facts(got: Any, right: float, case: Case) -> str:
    """Return what an answer of infinity, or one that should be infinite, overlooks."""
    if right == math.inf:
        return "When one is done, the next is there already. Does that end? Then the answer is math.inf."
    if got == math.inf:
        if case["ageing"] is not None:
            return "With ageing, those who come late enough do not overtake. Is there always an end?"
        if case["free"] < case["gap"]:
            return "Is any short one there when the seat becomes free?"
        return "Do the short ones come as fast as they are served? If not, there is a gap in the end."
    if got == case["free"] == case["gap"]:
        return HERE
    return ""


def begin_broken(got: Any, right: float, case: Case) -> str:
    """Return what is wrong."""
    if got == math.inf:
        return "it does begin"
    return "it never begins" if right == math.inf else "the value is wrong"


def _two_rounds(free: float, short: float, gap: float, **_: Any) -> float:
    """Serve those who were there, and none of those who come meanwhile."""
    return free + math.floor(free / gap) * short


BEGIN = Family(
    begins,
    begin_cases,
    (Part(broken=begin_broken, facts=begin_facts, mistakes={
        "Is ageing taken into account?": (_begins(ahead=_ALWAYS), lambda ageing=None, **case: begins(**case)),
        "A short one has a length, too, that puts it back. Is it counted?": _begins(ahead=lambda at, a, s, n: at < a * n),
        "`ageing` is in seconds of waiting for a second of length. Does it divide?": _begins(ahead=lambda at, a, s, n: at < (n - s) / a),
        "Of equals, the one that came first goes first. Which one is that?": _begins(ahead=lambda at, a, s, n: at + a * s <= a * n),
        HERE: _begins(here=lambda at, now: at < now),
        "Short ones have come before the seat is free. Do they go first?": lambda free, **_: free,
        "While those are served, others come. Do these go first, too?": _two_rounds,
        "That is when it ends. When does it begin?": lambda **case: begins(**case) + case["long"],
        "That is how long it waits behind the short ones. At which moment does it begin?": lambda **case: begins(**case) - case["free"],
        "The first short one comes at `gap`, not at 0. Is one too many served?": _begins(from_zero=True),
        "Short jobs come for ever. Are only so many of them looked at?": tuple(
            _begins(most=most, given_up=end) for most in (9, 10, 50, 99, 100, 999, 1000) for end in (math.inf, 0.0)),
    }),),
    valid=_is_stream,
)  # fmt: skip
