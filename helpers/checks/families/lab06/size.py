"""Exercise 6.5: workloads for a page size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain


def page_size(
    lengths: list[int], shared: int, sizes: Sequence[int], most_wasted: float, *, pick: str = "largest", strict: bool = False,
    **options: Any,
) -> int | None:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    ordered = list(sizes) if pick in ("listed", "first") else sorted(sizes)
    wasted = {size: waste(lengths, shared, size, **options) for size in sizes}
    good = [
        size for size in ordered if wasted[size] < most_wasted or (not strict and wasted[size] == most_wasted)
    ]
    if pick == "until":
        good = list(itertools.takewhile(good.__contains__, ordered))
    if pick == "least":
        good = [min(sizes, key=lambda size: (wasted[size], -size))] if good else []
    if not good:
        return min(sizes) if pick == "always" else None
    return good[0] if pick in ("smallest", "first") else good[-1]


def waste(
    lengths: list[int], shared: int, size: int, *, keep: str = "full", tokens: str = "once", over: str = "taken", half: bool = False,
    mean: bool = False,
) -> float:  # fmt: skip
    """Return the wasted share at one page size; with one of the options changed a wrong one."""
    common = {"full": shared // size * size, "all": shared, "none": 0}[keep]
    rest = [length - common for length in lengths]
    if mean:
        return sum(1 - n / (-(-n // size) * size) if n else 0.0 for n in lengths) / len(lengths)
    taken = size * (-(-common // size) + sum(-(-n // size) for n in rest))
    held = {
        "once": common + sum(rest),
        "each": sum(lengths),
        "different": shared + sum(lengths) - shared * len(lengths),
    }[tokens]
    empty = len(lengths) * size / 2 if half else taken - held
    return empty / (taken if over == "taken" else held)


def _size(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: page_size(**case, **options)


def size_cases(draw: random.Random) -> Iterator[Case]:
    """Yield workloads: one request, equal ones, no beginning in common or nothing else; wastes that are just acceptable."""
    for lengths, shared, sizes, most in (
        ([100, 37, 80, 150], 0, (8, 16, 32, 64), 0.15), ([12], 0, (4, 16), 0.25), ([12], 0, (16,), 0.25), ([96, 96, 192], 0, (16, 64, 48, 40), 0.01),
        ([33, 65, 17], 0, (64, 32), 0.05), ([130, 140, 150, 160], 100, (8, 16, 32, 64), 0.2), ([105, 110, 120, 101] * 5, 100, (8, 16, 32, 64), 0.3),
        ([64, 64], 64, (16, 64, 32), 0.1), ([24, 24], 16, (16, 32), 0.25), ([1], 1, (1,), 0.0), ([3], 0, (4, 8), 0.0),
    ):  # fmt: skip
        yield dict(lengths=lengths, shared=shared, sizes=sizes, most_wasted=most)
    while True:
        shared = draw.choice((0, draw.randrange(1, 60), draw.randrange(1, 200)))
        lengths = [shared + draw.randrange(300) for _ in range(draw.randrange(1, 9))]
        some = tuple(draw.sample((1, 2, 8, 16, 24, 32, 48, 64, 100, 128), draw.randrange(1, 6)))
        most = draw.choice((0.05, 0.1, 0.2, 0.35, 0.5))
        wastes = [waste(lengths, shared, size) for size in some] if all(lengths) else [most]
        if all(abs(one - most) > 1e-9 for one in wastes):  # else rounding decides
            yield dict(lengths=lengths, shared=shared, sizes=some, most_wasted=most)


def _is_workload(lengths: list[int], shared: int, sizes: Sequence[int], most_wasted: float) -> bool:
    """Return whether all requests hold what they share, and rounding decides nothing."""
    good = (
        bool(lengths)
        and bool(sizes)
        and min(lengths) >= max(shared, 1)
        and min(sizes) >= 1
        and len({*sizes}) == len(sizes)
    )
    return (
        good
        and 0 <= most_wasted < 1
        and all(abs(waste(lengths, shared, size) - most_wasted) > 1e-9 for size in sizes)
    )


def size_kind(got: Any, case: Case) -> tuple[int | None]:
    """Return the size. Raises CheckFailed when it is none of the sizes."""
    got = plain(got)
    if got is not None and (not is_whole(got) or got not in case["sizes"]):
        raise CheckFailed("expected one of the sizes, or None", case, got=describe(got))
    return (got,)


def size_shown(case: Case) -> dict[str, Any]:
    """Return a case with the waste of each size."""
    wastes = (f"{waste(case['lengths'], case['shared'], size):.3f} of {size}" for size in case["sizes"])
    return {**case, "waste": Words(", ".join(wastes))}


def size_facts(got: int | None, right: int | None, case: Case) -> str:
    """Return a question about what a waste is made of."""
    if right is None:
        return "Every size wastes too much here. What is returned then?"
    return "For one size: how many pages are there, and how many of their slots hold a token?"


def _none(**case: Any) -> None:
    """Return None, as if no size were good enough."""


SIZE = Family(
    page_size,
    size_cases,
    (Part(broken="this is not the page size", facts=size_facts, shown=Words, mistakes={
        "Is a return missing, or is a size refused that would do?": _none,
        "Is a waste of exactly most_wasted acceptable?": _size(strict=True),
        "Is that the smallest one that will do? The largest is asked for.": _size(pick="smallest"),
        "The sizes come in any order. Is the largest one chosen, or the last?": (_size(pick="listed"), _size(pick="first")),
        "A larger size may waste less than a smaller one. Does the search stop too early?": _size(pick="until"),
        "The largest acceptable size is asked for. Is it the one that wastes least?": _size(pick="least"),
        "What is returned when every size wastes too much?": (
            _size(pick="always"), lambda lengths, shared, sizes, most_wasted: page_size(lengths, shared, sizes, most_wasted) or max(sizes),
            lambda lengths, shared, sizes, most_wasted: page_size(lengths, shared, sizes, most_wasted) or sizes[0]),
        "Full pages of the beginning exist once. Has every request its own here?": _size(keep="none"),
        "What is left of the beginning lies in every request's own page. Does it fill a slot in each?": _size(tokens="different"),
        "Only *full* pages are shared. Where is the rest of the common beginning?": _size(keep="all"),
        "Shared tokens are held once, in shared pages. How often are they counted?": _size(tokens="each"),
        "A share of what? Of the slots in use, not of the tokens.": _size(over="held"),
        "Half a page each is an average. How much is it here, exactly?": _size(half=True),
        "Add up slots, not shares: is it a mean of the requests' own shares?": _size(mean=True),
    }),),
    kind=size_kind,
    valid=_is_workload,
    shown=size_shown,
)  # fmt: skip
