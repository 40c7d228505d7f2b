"""Exercise 10.5: a format for each part of a model, within a memory."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import plain

Formats = Mapping[str, Mapping[str, int]]
Parts = Mapping[str, Mapping[str, Any]]
Choice = Mapping[str, str]


def nbytes(weights: int, fmt: Mapping[str, int], scales: bool = True) -> float:
    """Return the bytes of weights in a format, with a scale of 16 bits for each group, where it has groups."""
    groups = weights / fmt["group"] if fmt["group"] and scales else 0
    return weights * fmt["bits"] / 8 + 2 * groups


def total(parts: Parts, formats: Formats, choice: Choice) -> float:
    """Return the bytes of a choice."""
    return sum(nbytes(parts[name]["weights"], formats[fmt]) for name, fmt in choice.items())


def cost(parts: Parts, choice: Choice) -> float:
    """Return what a choice costs in quality."""
    spent: float = sum(parts[name]["cost"][fmt] for name, fmt in choice.items())
    return spent


def choices(parts: Parts, formats: Formats, budget: float) -> Iterator[Choice]:
    """Yield all choices that fit."""
    for found in itertools.product(formats, repeat=len(parts)):
        choice = dict(zip(parts, found, strict=True))
        if total(parts, formats, choice) <= budget:
            yield choice


def least(parts: Parts, formats: Formats, budget: float) -> float | None:
    """Return the least cost of a choice that fits; None where nothing does."""
    known: dict[float, float] = {0.0: 0.0}
    for part in parts.values():
        further = dict[float, float]()
        for used, spent in known.items():
            for name, fmt in formats.items():
                more, worse = used + nbytes(part["weights"], fmt), spent + part["cost"][name]
                if more <= budget and worse < further.get(more, worse + 1):
                    further[more] = worse
        known = further
    return min(known.values(), default=None)


def _by(rule: Callable[[Parts, Formats, float], Choice | None]) -> Wrong:
    """Return what a rule's choice costs; None where it makes none, or one that does not fit."""

    def wrong(parts: Parts, formats: Formats, budget: float) -> float | None:
        choice = rule(parts, formats, budget)
        return None if choice is None or total(parts, formats, choice) > budget else cost(parts, choice)

    return wrong


def _one_for_all(parts: Parts, formats: Formats, budget: float) -> Choice | None:
    """Give all parts one format."""
    whole = [dict.fromkeys(parts, name) for name in formats]
    return min(_fitting(whole, parts, formats, budget), key=lambda choice: cost(parts, choice), default=None)


def _smallest(parts: Parts, formats: Formats, budget: float) -> Choice | None:
    """Give each part its smallest format."""
    choice = {
        name: min(formats, key=lambda fmt: nbytes(part["weights"], formats[fmt]))
        for name, part in parts.items()
    }
    return choice if total(parts, formats, choice) <= budget else None


def _largest(parts: Parts, formats: Formats, budget: float) -> Choice | None:
    """Fill the memory as far as it goes."""
    found = choices(parts, formats, budget)
    return max(found, key=lambda choice: (total(parts, formats, choice), -cost(parts, choice)), default=None)


def _averaged(parts: Parts, formats: Formats, budget: float) -> Choice | None:
    """Weigh the cost of a part by its weights."""
    found = choices(parts, formats, budget)

    def weighed(choice: Choice) -> float:
        return float(sum(parts[name]["cost"][fmt] * parts[name]["weights"] for name, fmt in choice.items()))

    return min(found, key=weighed, default=None)


def _in_order(parts: Parts, formats: Formats, budget: float) -> Choice | None:
    """Give each part, in order, the best format that leaves room for the smallest ones of the others."""
    choice = dict(_smallest(parts, formats, budget) or {})
    for name, part in parts.items() if choice else ():
        fitting = _fitting([{**choice, name: fmt} for fmt in formats], parts, formats, budget)
        choice = dict(min(fitting, key=lambda one, name=name, part=part: part["cost"][one[name]]))  # type: ignore[misc]
    return choice or None


def _greedy(parts: Parts, formats: Formats, budget: float, per_byte: bool = True) -> Choice | None:
    """Begin with the smallest formats; take the step that gains most, as long as one fits."""
    choice = dict(_smallest(parts, formats, budget) or {})
    while choice:
        steps = []
        for name, fmt in itertools.product(parts, formats):
            gain = parts[name]["cost"][choice[name]] - parts[name]["cost"][fmt]
            other = {**choice, name: fmt}
            more = total(parts, formats, other) - total(parts, formats, choice)
            if gain > 0 and total(parts, formats, other) <= budget:
                steps.append((gain / max(more, 1e-9) if per_byte else gain, name, fmt))
        if not steps:
            break
        _, name, fmt = max(steps)
        choice[name] = fmt
    return choice or None


def _whole_bytes(parts: Parts, formats: Formats, budget: float) -> Choice | None:
    """Round the budget down."""
    return min(choices(parts, formats, budget // 1), key=lambda choice: cost(parts, choice), default=None)


def _fitting(found: list[Any], parts: Parts, formats: Formats, budget: float) -> list[Any]:
    """Return the choices that fit."""
    return [choice for choice in found if total(parts, formats, choice) <= budget]


def budget_cases(draw: random.Random) -> Iterator[Case]:
    """Yield models of one part or several: budgets that just hold a choice, that hold all, and that hold nothing."""
    narrow = {"w4": {"bits": 4, "group": 0}, "w3": {"bits": 3, "group": 0}}
    for budget in (50.5, 50):
        yield {
            "parts": {"down": {"weights": 101, "cost": {"w4": 1, "w3": 9}}},
            "formats": narrow,
            "budget": budget,
        }
    while True:
        formats: dict[str, dict[str, int]] = {"bf16": {"bits": 16, "group": 0}, "int8": {"bits": 8, "group": draw.choice((64, 128))},
                                              "int4": {"bits": 4, "group": draw.choice((32, 64))}, "int3": {"bits": 3, "group": 32}}  # fmt: skip
        formats = {name: formats[name] for name in draw.sample(list(formats), draw.randrange(1, 5))}
        parts: dict[str, dict[str, Any]] = {}
        for name in draw.sample(("attention", "up", "down", "head", "gate"), draw.randrange(1, 5)):
            worst = draw.choice((10, 60, 400))
            costs = {
                fmt: draw.randrange(1 + worst * (16 - one["bits"]) // 12) for fmt, one in formats.items()
            }
            parts[name] = {"weights": 128 * draw.randrange(1, 9), "cost": costs}
        _vary(draw, parts)
        some = {name: draw.choice(list(formats)) for name in parts}
        budget = total(parts, formats, some) + draw.choice((0, 0, 0, 40, -0.25, -1, -300))
        yield {"parts": parts, "formats": formats, "budget": max(1.0, budget)}
        if draw.random() < 0.2:  # the same names and the same memory, and other costs
            turned = {
                name: {
                    **part,
                    "cost": dict(zip(part["cost"], reversed(part["cost"].values()), strict=True)),
                }
                for name, part in parts.items()
            }
            yield {"parts": turned, "formats": formats, "budget": max(1.0, budget)}


def _vary(draw: random.Random, parts: dict[str, dict[str, Any]]) -> None:
    """Make all parts as large as a real model's, or their costs large, fractions, or none of them 0."""
    times = draw.choice((1, 1, 10**6))
    unit, least = draw.choice(((1, 0), (1, 0), (1, 3), (0.25, 0), (10**7, 1)))
    for part in parts.values():
        part["weights"] *= times
        part["cost"] = {fmt: (spent + least) * unit for fmt, spent in part["cost"].items()}


def budget_kind(got: Any, case: Case) -> tuple[float | None]:
    """Return what a choice costs. Raises CheckFailed when it is none, or does not fit."""
    got, parts, formats = plain(got), case["parts"], case["formats"]
    if got is None:
        return (None,)
    if not isinstance(got, Mapping) or set(got) != set(parts):
        raise CheckFailed("expected a dictionary with a format for each part", case, got=describe(got))
    if not all(isinstance(fmt, str) and fmt in formats for fmt in got.values()):
        raise CheckFailed("that is no format of this case", case, got=describe(dict(got)))
    if total(parts, formats, got) > case["budget"]:
        bare = sum(nbytes(parts[name]["weights"], formats[fmt], scales=False) for name, fmt in got.items())
        hint = "Are the scales counted? 4 bits with groups of 32 are 4.5." if bare <= case["budget"] else ""
        cut = sum(int(nbytes(parts[name]["weights"], formats[fmt])) for name, fmt in got.items())
        hint = "Half a byte counts, too. Are bytes cut to whole ones?" if cut <= case["budget"] else hint
        taken = f"{dict(got)}: {total(parts, formats, got):,} bytes"
        raise CheckFailed("the choice does not fit into the budget", case, got=taken, hint=hint)
    return (cost(parts, got),)


def budget_facts(got: Any, right: Any, case: Case) -> str:
    """Return what a missing choice tells."""
    if got is None:
        return "There is a choice that fits. May a choice take exactly the budget? Is a return missing?"
    return ""


BUDGET = Family(
    least,
    budget_cases,
    (Part("cost", broken="another choice costs less", facts=budget_facts, mistakes={
        "That is one format for all parts. May each have its own?": _by(_one_for_all),
        "These are the smallest formats. Is there memory left that could buy quality?": _by(_smallest),
        "The memory is filled as far as it goes. Does the choice that takes most cost least?": _by(_largest),
        "Is the cost of a part multiplied by its weights? It is that of the whole part already.": _by(_averaged),
        "A budget need not be whole. Is it rounded down?": _by(_whole_bytes),
        "Are the parts served in order? The first ones take the memory that later ones need more.": _by(_in_order),
        "Is one step taken after the other, the best one each time? What was best alone may not be so in company.": (
            _by(_greedy), _by(lambda parts, formats, budget: _greedy(parts, formats, budget, per_byte=False))),
    }),),
    kind=budget_kind,
    valid=lambda parts, formats, budget: bool(parts) and budget > 0 and all(
        part["weights"] >= 1 and not any(fmt["group"] and part["weights"] % fmt["group"] for fmt in formats.values()) and part["cost"].keys() == formats.keys() and min(part["cost"].values()) >= 0
        for part in parts.values()) and all(fmt["group"] in (0, 32, 64, 128) and fmt["bits"] in (3, 4, 8, 16) for fmt in formats.values()),
)  # fmt: skip
