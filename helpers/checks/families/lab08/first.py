"""Exercise 8.2: queues that age."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong

Job = dict[str, Any]


Rule = Callable[[Job, float, float], Any]


def _moment(job: Job, now: float, ageing: float) -> float:
    """Return what orders those who wait."""
    return float(job["arrived"] + ageing * job["priority"])


def first(waiting: Sequence[Job], now: float, ageing: float) -> str:
    """Return the right answer."""
    return _chosen(lambda j, n, a: (_moment(j, n, a), j["arrived"]))(waiting=waiting, now=now, ageing=ageing)


def _chosen(rule: Rule) -> Callable[..., str]:
    """Return an answer that takes the smallest by a rule; of equals, the first of the list."""

    def answer(waiting: Sequence[Job], now: float, ageing: float) -> str:
        name: str = min(waiting, key=lambda job: rule(job, now, ageing))["name"]
        return name

    return answer


def _ruled(rule: Rule) -> tuple[Wrong, ...]:
    """Return the answers that follow a wrong rule: of equals the first to come, or the first of the list."""
    return _chosen(lambda j, n, a: (rule(j, n, a), j["arrived"])), _chosen(lambda j, n, a: (rule(j, n, a),))


def first_cases(draw: random.Random) -> Iterator[Case]:
    """Yield queues: one request, equal moments, waits of seconds and of days, steps of priority that count much or little."""
    for jobs, now, ageing in (
        ([("a", 5, 1.0)], 2.0, 10.0), ([("c", 1, 4.0), ("a", 0, 8.0), ("b", 2, 0.0)], 9.0, 4.0),
        ([("a", 2, 0.0), ("b", 0, 9.0), ("c", 0, 12.0)], 13.0, 5.0), ([("a", 0, 3.0), ("b", 0, 2.0), ("c", 1, 1.0)], 4.0, 60.0),
        ([("a", 0, 0.0), ("b", 3, 1.0)], 2.0, 10.0), ([("a", 3, 0.0), ("b", 0, 2.0)], 40.0, 1.0),
        ([("a", 1, 0.25), ("b", 0, 0.625)], 0.75, 0.25), ([("b", 0, 2000.0), ("a", 1, 0.0)], 2500.0, 1024.0),
    ):  # fmt: skip
        waiting = [{"name": name, "priority": p, "arrived": at} for name, p, at in jobs]
        yield {"waiting": waiting, "now": now, "ageing": ageing}
    while True:
        case = _queue(draw)
        if is_queue(**case):
            yield case


def _queue(draw: random.Random) -> Case:
    """Return a queue, half of them in numbers whose sums are exact, where moments can be equal."""
    names = draw.sample("abcdefghij", draw.randrange(1, draw.choice((3, 6, 10))))
    exact, longest = draw.random() < 0.6, draw.choice((2, 8, 40, 300, 20_000))
    ageing = 2.0 ** draw.randrange(-2, 10) if exact else draw.uniform(0.1, 50)
    waiting = list[Job]()
    for name in names:
        at = draw.randrange(4 * longest + 1) / 4 if exact else draw.uniform(0, longest)
        if exact and waiting and draw.random() < 0.5:  # as urgent as another one, or nearly so
            other = draw.choice(waiting)
            priority = draw.randrange(4)
            at = (
                _moment(other, 0.0, ageing)
                - ageing * priority
                + draw.choice((0.0, 0.0, 0.25, -0.125, 1 / 512))
            )
        else:
            priority = draw.choice((0, 0, 1, 2, 3, draw.randrange(9)))
        if at >= 0:
            waiting.append({"name": name, "priority": priority, "arrived": at})
    now = max([job["arrived"] for job in waiting], default=0.0) + draw.choice((0.0, 0.25, 40.0))
    return {"waiting": waiting, "now": now, "ageing": ageing}


def is_queue(waiting: Sequence[Job], now: float, ageing: float) -> bool:
    """Return whether a queue has one first: no two alike, and no two so close that rounding decides."""
    if not waiting or ageing <= 0 or any(len(job) != 3 or not 0 <= job["arrived"] <= now for job in waiting):
        return False
    if any(job["priority"] < 0 for job in waiting) or len({job["name"] for job in waiting}) < len(waiting):
        return False
    keys = sorted((_moment(job, now, ageing), job["arrived"]) for job in waiting)
    exact = all(n * 1024 == int(n * 1024) for n in (now, ageing, *(job["arrived"] for job in waiting)))
    exact = exact and math.log2(ageing) % 1 == 0
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(keys)]
    return len({*keys}) == len(keys) and all(gap > 1e-6 or (exact and gap == 0) for gap in gaps)


def first_kind(got: Any, case: Case) -> tuple[str]:
    """Return the name. Raises CheckFailed when it is none of those who wait."""
    if got is None:
        raise CheckFailed("there is no name yet", case, got=got, hint="Is a return missing?")
    if not isinstance(got, str) or got not in [job["name"] for job in case["waiting"]]:
        raise CheckFailed("expected the name of a request that waits", case, got=describe(got))
    return (str(got),)


_ENDS = (1, 5, 10, 30, 60, 100, 120, 300, 600, 1000, 3600)
_PLACE = "Equals go by arrival. Does the place in the list decide?"
FIRST = Family(
    first,
    first_cases,
    (Part(broken="not the next one", mistakes={
        _PLACE: _chosen(_moment),
        "Priority alone. Where does the wait come in?": _chosen(lambda j, n, a: (j["priority"], j["arrived"])),
        "Priority alone, and of equals the first of the list. Do all requests age alike?": _chosen(lambda j, n, a: j["priority"]),
        "By arrival alone. What does priority change?": _ruled(lambda j, n, a: j["arrived"]),
        "Does a request that waits become more urgent? Does the wait make the number larger?": _ruled(lambda j, n, a: j["priority"] + (n - j["arrived"]) / a),
        "The smaller number is the more urgent one. Is it taken the other way round?": _ruled(lambda j, n, a: -j["priority"]),
        "Is the largest one taken in place of the smallest?": _ruled(lambda j, n, a: -_moment(j, n, a)),
        "A step of priority puts a request back, by `ageing` seconds. Does it put one forward?": _ruled(lambda j, n, a: j["arrived"] - a * j["priority"]),
        "`ageing` is seconds for a step. Is the wait divided by it, or multiplied?": _ruled(lambda j, n, a: j["priority"] - a * (n - j["arrived"])),
        "Does `ageing` count? A step of priority is worth that many seconds, not one.": _ruled(lambda j, n, a: j["arrived"] + j["priority"]),
        "Are steps cut to whole ones? Then the order of two who wait changes from one moment to the next.": (
            *_ruled(lambda j, n, a: j["priority"] - (n - j["arrived"]) // a), *_ruled(lambda j, n, a: j["priority"] - round((n - j["arrived"]) / a))),
        "Every second counts alike, and parts of a second too. Are moments rounded?": (
            *_ruled(lambda j, n, a: int(j["arrived"]) + a * j["priority"]), *_ruled(lambda j, n, a: round(_moment(j, n, a))), *_ruled(lambda j, n, a: math.floor(_moment(j, n, a))),
            *_ruled(lambda j, n, a: round(_moment(j, n, a), 1)), *_ruled(lambda j, n, a: round(_moment(j, n, a), 2))),
        "Does urgency end at 0? Then all who have waited for long are equal.": _ruled(lambda j, n, a: max(0.0, j["priority"] - (n - j["arrived"]) / a)),
        "Does ageing end after some time? Every second of waiting counts, the last one too.": tuple(
            one for most in _ENDS for one in _ruled(lambda j, n, a, most=most: j["priority"] - min(n - j["arrived"], most) / a)),  # type: ignore[misc]
        "Equals go by arrival. Does the priority decide?": _chosen(lambda j, n, a: (_moment(j, n, a), j["priority"])),
        "Equals go by arrival. Is the last to come taken, or the first name?": (
            _chosen(lambda j, n, a: (_moment(j, n, a), -j["arrived"])), _chosen(lambda j, n, a: (_moment(j, n, a), j["name"]))),
        "The last to come is served first. Is that meant?": _ruled(lambda j, n, a: -j["arrived"]),
    }),),
    kind=first_kind,
    valid=is_queue,
    count=250,
)  # fmt: skip
