"""Exercise 9.4: two captures of one step."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Launch = dict[str, Any]
Places = list[tuple[int, str]]


def stale(
    first: Sequence[Launch], second: Sequence[Launch], *, where: tuple[str, ...] = ("memory", "numbers"), from_one: bool = False,
    changed: bool = True, only: str = "all", lists: str = "whole", refuses: str = "order",
) -> Places:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one. Raises ValueError for two different steps."""
    steps = [[one["operator"] for one in capture] for capture in (first, second)]
    if refuses == "set":
        steps = [sorted(step) for step in steps]
    if refuses != "never" and steps[0] != steps[1]:
        raise ValueError
    found = Places()
    for i, (one, other) in enumerate(zip(first, second, strict=False)):
        for kind in where:
            for name, value in one[kind].items():
                differs = _seen(value, lists) != _seen(other[kind].get(name), lists)
                grown = differs and not isinstance(value, list) and other[kind][name] > value
                if (grown if only == "grown" else differs) == changed:
                    found.append((i + from_one, name))
    return found[:1] if only == "first" else sorted(found)[: 1 if only == "least" else None]


def _seen(value: Any, lists: str) -> Any:
    """Return what an answer compares of an argument: all of it, or of a list less."""
    if not isinstance(value, list):
        return value
    return {"whole": value, "none": 0, "first": value[:1], "last": value[-1:], "sum": sum(value),
            "set": sorted({*value}), "sorted": sorted(value)}[lists]  # fmt: skip


def _stale(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda first, second: stale(first, second, **options)


def _seen_once(first: Sequence[Launch], second: Sequence[Launch]) -> Places:
    """Name each argument once, at its first place."""
    found = Places()
    for i, name in stale(first, second):
        if name not in [other for _, other in found]:
            found.append((i, name))
    return found


def launch(operator: str, memory: dict[str, int], **numbers: Any) -> Launch:
    """Return a launch of a capture."""
    return {"operator": operator, "memory": memory, "numbers": numbers}


def stale_cases(draw: random.Random) -> Iterator[Case]:
    """Yield captures: empty ones, equal ones, lengths alone or in lists, memory that moved, and steps that differ."""
    step = [launch("linear", {"x": 64, "weight": 4096}), launch("attention", {"q": 128, "k": 8192}, length=9, scale=0.125),
            launch("add", {"x": 128, "y": 64}, alpha=1)]  # fmt: skip
    longer = copy.deepcopy(step)
    longer[1]["numbers"]["length"] = 10
    moved = copy.deepcopy(step)
    moved[0]["memory"]["x"] = 72
    far = copy.deepcopy(step)
    far[0]["memory"] |= {"x": 64 + 2**32, "weight": 4096 + 2**40}
    shorter = copy.deepcopy(longer)
    shorter[1]["numbers"]["length"] = 3
    lists = [launch("attention", {"q": 1}, lengths=[9, 4])], [launch("attention", {"q": 1}, lengths=[10, 5])]
    few = [([launch("attention", {"q": 1}, lengths=a)], [launch("attention", {"q": 1}, lengths=b)])
           for a, b in (([9, 4], [9, 5]), ([9, 4], [4, 9]), ([9, 4, 4], [9, 9, 4]), ([9, 4], [9, 4, 4]), ([], [7]), ([1, 23], [12, 3]),
                        ([0.5, 0.25], [0.5, 0.2500001]), ([-1, 3], [-2, 3]))]  # fmt: skip
    few += [([launch("attention", {"q": 2**62}, **{name: a})], [launch("attention", {"q": 2**62 + 1}, **{name: b})])
            for name, a, b in (("start", 0, 5), ("start", 5, 0), ("scale", 0.125, 0.12500001), ("start", -1, -2))]  # fmt: skip
    turned = [step[1], step[0], step[2]]
    other = [
        [launch(name, {"x": 1}) for name in names]
        for names in (("add", "mul", "add"), ("add", "linear", "add"))
    ]
    joined = [
        [launch(name, {"x": 1}) for name in names] for names in (("add", "mul_add"), ("addmul", "_add"))
    ]
    for first, second in (
        *few, (step, turned), other, joined, (step, far), ([], []), (step, step), (step, longer), (step, moved), (longer, shorter), lists, (step, step[:2]), (step[:2], step),
        (step, [launch("mul", *([step[0]["memory"]])), *step[1:]]), ([*step, *step], [*longer, *moved]), ([], step),
    ):  # fmt: skip
        yield {"first": first, "second": second}
    while True:
        yield _captures(draw)


def _captures(draw: random.Random) -> Case:
    """Return two captures of a step, or of two steps."""
    first = list[Launch]()
    for _ in range(draw.randrange(1, draw.choice((2, 4, 9)))):
        memory = {
            name: draw.randrange(1, 9999) for name in draw.sample(("x", "y", "k", "v"), draw.randrange(1, 4))
        }
        numbers: dict[str, Any] = {
            n: draw.randrange(1, 40) for n in draw.sample(("length", "start", "rows"), draw.randrange(3))
        }
        numbers |= {"scale": 0.125} if draw.random() < 0.4 else {}
        numbers |= (
            {"lengths": [draw.randrange(1, 40) for _ in range(draw.randrange(1, 5))]}
            if draw.random() < 0.3
            else {}
        )
        first.append(launch(draw.choice(("linear", "attention", "add")), memory, **numbers))
    second = copy.deepcopy(first)
    for one in second:
        for kind, likely in (("memory", 0.1), ("numbers", 0.35)):
            for name, value in one[kind].items():
                if draw.random() < likely:
                    one[kind][name] = _changed(draw, kind, value)
            one[kind] = dict(draw.sample(list(one[kind].items()), len(one[kind])))
    other = draw.random()
    if other < 0.06:
        second.append(copy.deepcopy(draw.choice(second)))
    elif other < 0.12:
        second[-1]["operator"] = "mul"
    elif other < 0.15:
        second = second[:-1]
    return {"first": first, "second": second}


def _changed(draw: random.Random, kind: str, value: Any) -> Any:
    """Return another value of an argument: a little more or much, of a list one place or one more."""
    if kind == "memory":
        return value + draw.choice((1, 8, 4096, 2**32))
    if not isinstance(value, list):
        return value + draw.choice((1, 1, -0.5, 8, 1e-4))
    at = draw.randrange(len(value))
    return draw.choice(([*value, value[-1]], [*value[:at], value[at] + 1, *value[at + 1 :]]))


def stale_kind(got: Any, case: Case) -> tuple[Places]:
    """Return the pairs in order. Raises CheckFailed when they are something else."""
    got = plain(got)
    if got is None:
        raise CheckFailed("there is no list yet", case, got=got, hint="Is a return missing?")
    got = list(got) if isinstance(got, set | frozenset) else got
    pairs = isinstance(got, list | tuple) and all(
        isinstance(one, list | tuple) and len(one) == 2 and is_whole(one[0]) and isinstance(one[1], str)
        for one in got
    )
    if not pairs:
        raise CheckFailed(
            "expected a list of pairs: the launch's number, the argument's name", case, got=describe(got)
        )
    return (sorted((number, name) for number, name in got),)


def _are_captures(first: Sequence[Launch], second: Sequence[Launch]) -> bool:
    """Return whether all launches have their three entries, and those of one place the same arguments."""
    whole = all(len(one) == 3 and one["operator"] and one["memory"] for one in (*first, *second))
    return whole and all(
        one["operator"] != other["operator"]
        or all(one[kind].keys() == other[kind].keys() for kind in ("memory", "numbers"))
        for one, other in zip(first, second, strict=False)
    )


STALE = Family(
    stale,
    stale_cases,
    (Part("arguments", broken="not the ones that differ", mistakes={
        "A replay reads the very memory that was captured. Are addresses compared?": _stale(where=("numbers",)),
        "A number that the host gave is fixed, too. Are numbers compared?": _stale(where=("memory",)),
        "Are launches counted from 0?": _stale(from_one=True),
        "These are the arguments that stay. Which ones change?": _stale(changed=False),
        "There may be several. Does the search end at the first one?": (_stale(only="first"), _stale(only="least")),
        "An argument of the same name stands in several launches. Is each of them listed?": _seen_once,
        "A number that became smaller is as stale as one that grew. Is only growth found?": _stale(only="grown"),
        "A list of lengths is an argument, too. Is it compared?": _stale(lists="none"),
        "A list may change at any of its places. Is all of it compared?": (
            _stale(lists="first"), _stale(lists="last"), _stale(lists="sum"), _stale(lists="set"), _stale(lists="sorted")),
        "Different operators are no two captures of one step. Is that refused?": _stale(refuses="never"),
        "The same operators in another order are another step. Is their order compared?": _stale(refuses="set"),
    }),),
    kind=stale_kind,
    valid=_are_captures,
    refusals=("these captures are of two different steps", "these captures are of one step, and it refused them"),
)  # fmt: skip
