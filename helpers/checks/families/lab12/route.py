"""Exercise 12.3: conversations over engines, with a bound on imbalance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain


def places(
    requests: Sequence[tuple[str, int]], engines: int, slack: int, *, bound: str = "least", strict: bool = False, own: bool = False,
    affinity: bool = True, moves: bool = True, fresh: str = "least", ties: str = "first", counts: str = "tokens", away: str = "least",
    known: Callable[[str], str] = str, none: tuple[Any, ...] = (),
) -> list[int]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    loads, homes, found = [0] * engines, dict[str, int](), list[int]()
    for number, (talk, tokens) in enumerate(requests):
        talk = known(talk)
        home = homes.get(talk)
        home = None if talk in none or home in none else home
        limit = {
            "least": min(loads),
            "mean": sum(loads) / engines,
            "most": max(loads),
            "none": float("inf"),
            "zero": 0,
        }[bound] + slack
        load = loads[home] + (tokens if own else 0) if home is not None else 0
        fits = load < limit if strict else load <= limit
        if home is not None and affinity and fits:
            chosen = home
        elif home is None and fresh == "turn":
            chosen = number % engines
        elif home is not None and away == "next":
            chosen = (home + 1) % engines
        else:
            order = range(engines) if ties == "first" else range(engines)[::-1]
            chosen = min(order, key=lambda i: loads[i])
        found.append(chosen)
        loads[chosen] += tokens if counts == "tokens" else 1
        if home is None or moves:
            homes[talk] = chosen
    return found


def _places(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: places(**case, **options)


def route_cases(draw: random.Random) -> Iterator[Case]:
    """Yield requests: none, one engine, one conversation, many, a popular one, loads on the bound, no slack, many engines, large loads."""
    for requests, engines, slack in (
        ([], 2, 0), ([("a", 5)], 1, 0), ([("a", 5), ("a", 5)], 2, 5), ([("a", 5), ("a", 5)], 2, 4), ([("a", 5), ("b", 5), ("c", 5)], 2, 10),
        ([("a", 6), ("a", 6), ("a", 6), ("a", 6)], 2, 7), ([("a", 9), ("a", 1), ("a", 1), ("b", 2), ("a", 3)], 3, 4),
        ([("a", 2), ("b", 8), ("c", 1), ("b", 1), ("b", 1), ("a", 1)], 3, 3), ([("a", 4), ("b", 4), ("a", 9), ("a", 1), ("a", 1)], 2, 2),
        ([("", 3), ("", 2)], 2, 5), ([("A", 3), ("a", 2)], 2, 5), ([(name, 1) for name in "abcdefghijklabc"], 5, 9),
        ([("a ", 3), ("a", 2)], 2, 5), ([("ab", 3), ("ac", 2)], 2, 5), ([("a", 300), ("b", 60), ("b", 60), ("c", 1)], 2, 250),
        ([("a", 40_000), ("b", 30_000), ("b", 1), ("a", 1), ("c", 1)], 2, 20_000), ([(f"talk {i % 30}", 1 + i % 7) for i in range(60)], 11, 20),
    ):  # fmt: skip
        yield {"requests": list(requests), "engines": engines, "slack": slack}
    while True:
        talks = "abcdefgh"[: draw.randrange(1, 9)]
        weights = [draw.choice((1, 1, 6)) for _ in talks]
        sizes = draw.choice(((5,), range(1, 8), (1, 2, 30)))
        count = draw.randrange(1, draw.choice((4, 9, 25)))
        requests = [(talk, draw.choice(sizes)) for talk in draw.choices(talks, weights, k=count)]
        slack = draw.choice((0, 1, 3, 5, 10, 40))
        engines = draw.choice((1, 2, 2, 3, 4))
        if draw.random() < 0.2:  # large loads and long names; equal names are not the same object
            requests, slack = [(f"talk {talk}", tokens * 5000) for talk, tokens in requests], slack * 5000
        yield {"requests": requests, "engines": engines, "slack": slack}


def route_kind(got: Any, case: Case) -> tuple[list[int]]:
    """Return the engines. Raises CheckFailed when they are something else."""
    got = plain(got)
    if got is None:
        raise CheckFailed("there is no list yet", case, got=got, hint="Is a return missing?")
    if not isinstance(got, list | tuple) or not all(is_whole(one) for one in got):
        raise CheckFailed(
            "expected a list of whole numbers, an engine for each request", case, got=describe(got)
        )
    if len(got) != len(case["requests"]):
        raise CheckFailed(f"{len(got)} engines for {len(case['requests'])} requests", case, got=describe(got))
    return (list(got),)


def route_facts(got: list[int], right: list[int], case: Case) -> str:
    """Return what an answer could see before the first request that goes elsewhere."""
    first = next(i for i, (a, b) in enumerate(zip(got, right, strict=True)) if a != b)
    loads, homes = [0] * case["engines"], dict[str, int]()
    for (talk, tokens), engine in zip(case["requests"][:first], right, strict=False):
        loads[engine] += tokens
        homes[talk] = engine
    home = homes.get(case["requests"][first][0])
    known = "has no home yet" if home is None else f"is at home at engine {home}"
    return f"Look at request {first}, counted from 0: the loads before it are {loads}, and its conversation {known}."


def _is_traffic(requests: Sequence[tuple[str, int]], engines: int, slack: int) -> bool:
    """Return whether each request has a conversation and tokens."""
    return engines >= 1 and slack >= 0 and all(len(one) == 2 and one[0] and one[1] >= 1 for one in requests)


ROUTE = Family(
    places,
    route_cases,
    (Part(facts=route_facts, mistakes={
        "Is there a bound at all? One popular conversation gets an engine for itself.": (
            _places(bound="none"), _places(bound="none", fresh="turn")),
        "The bound is above the least load. Is it above the mean?": _places(bound="mean"),
        "The bound is above the least load. Is it above the largest, so that all are within it?": _places(bound="most"),
        "The bound is above the least load. Is the slack compared with the load itself?": _places(bound="zero"),
        "A load of exactly the least plus the slack is within the bound. Is it refused?": _places(strict=True),
        "The load of an engine is what it has, before the request comes. Is the request counted already?": _places(own=True),
        "Does a conversation go back to its engine? All requests go to the least loaded one here.": _places(affinity=False),
        "A conversation that was moved has its text at the new engine. Is its home still the first one?": _places(moves=False),
        "A new conversation goes to the least loaded engine. Do these go in turn?": _places(fresh="turn"),
        "Engine 0 is an engine. Is it taken for none?": _places(none=(0,)),
        "A conversation's name may be any text, an empty one, too. Is that taken for none?": _places(none=("",)),
        "Names are compared letter by letter. Are they changed first?": (
            _places(known=str.lower), _places(known=str.upper), _places(known=str.strip), _places(known=lambda talk: talk.lower().strip())),
        "Of equal loads the first engine is taken. Is it the last?": _places(ties="last"),
        "A load is tokens. Are requests counted?": _places(counts="requests"),
        "When its engine is too busy, a request goes to the least loaded one. Does it go to the next?": _places(away="next"),
    }),),
    kind=route_kind,
    valid=_is_traffic,
)  # fmt: skip
