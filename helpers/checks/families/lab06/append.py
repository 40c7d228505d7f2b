"""Exercise 6.2: tables that grow."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain


def append(
    table: list[int], length: int, new: int, page_size: int, free: list[int], *, start: str = "token", rounding: str = "up",
    every: bool = False, keep: str = "all", guard: bool = True, refuse: bool = True, spare: int = 0, end: int = 1,
) -> list[int]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one.

    Raises ValueError when pages are missing.
    """
    tokens = {"token": length, "page": len(table) * page_size, "nothing": 0, "less": max(length - 1, 0)}[
        start
    ] + new
    pages = tokens // page_size + {"up": tokens % page_size > 0, "down": 0, "over": 1}[rounding]
    count = pages - len(table) if start != "nothing" or keep != "plus" else pages
    if refuse and count + spare > len(free):
        raise ValueError("too few pages")
    count = len(free) if every else count
    taken = free[::end][: max(0, count) if guard else count]
    joined = {"all": [*table, *taken], "plus": [*table, *taken], "new": taken, "before": [*taken, *table],
              "sorted": sorted([*table, *taken]), "twice": [*table, *taken[:1] * len(taken)],
              "cut": [*table[: max(pages, 0)], *taken]}[keep]  # fmt: skip
    return joined


def _append(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: append(**case, **options)


def _never_all(**case: Any) -> list[int]:
    """Refuse to take the last free page."""
    joined = append(**case)
    if len(joined) > len(case["table"]) and len(joined) == len(case["table"]) + len(case["free"]):
        raise ValueError("too few pages")
    return joined


def _by_length(table: Sequence[int], length: int, new: int, page_size: int, free: Sequence[int]) -> list[int]:
    """Count the pages of the old tokens in place of those of the table."""
    count = -(-(length + new) // page_size) - -(-length // page_size)
    if count > len(free):
        raise ValueError("too few pages")
    return [*table, *free[:count]]


def append_cases(draw: random.Random) -> Iterator[Case]:
    """Yield tables with room, full ones and none; free pages in plenty, just enough, one too few, none."""
    for table, length, new, page_size, count in (
        ([], 0, 0, 4, 0), ([], 0, 1, 1, 1), ([], 0, 0, 4, 2), ([6], 4, 1, 4, 2), ([6, 3], 6, 2, 4, 3), ([6, 3], 5, 2, 4, 3),
        ([7, 2, 9, 4, 12, 0, 5], 100, 50, 16, 6), ([9, 4, 7], 3, 2, 4, 3), ([4, 6], 6, 2, 4, 0), ([4], 3, 0, 4, 0), ([], 0, 5, 4, 2),
        ([3], 4, 5, 4, 1), ([], 0, 1, 4, 0), ([3, 5], 7, 10, 4, 2), ([8, 1], 8, 8, 4, 2), ([2], 1, 1, 1, 4),
    ):  # fmt: skip
        yield dict(
            table=table,
            length=length,
            new=new,
            page_size=page_size,
            free=[30 + (7 * i) % 10 for i in range(count)],
        )
    while True:
        page_size, length = (
            draw.choice((1, 2, 4, 16, 128)),
            draw.choice((0, draw.randrange(40), draw.randrange(600))),
        )
        pages = -(-length // page_size) + draw.choice((0, 0, 0, 1, 2))
        new = draw.choice((0, 1, page_size, draw.randrange(70)))
        needed = max(0, -(-(length + new) // page_size) - pages)
        count = draw.choice((needed, needed, needed + 1, needed + 5, max(0, needed - 1), 0))
        if pages < 40 and count < 80:
            numbers = draw.sample(range(200), pages + count)
            yield dict(
                table=numbers[:pages], length=length, new=new, page_size=page_size, free=numbers[pages:]
            )


def append_kind(got: Any, case: Case) -> tuple[list[int]]:
    """Return the table. Raises CheckFailed when it is no list of pages."""
    got = plain(got)
    if got is None:
        raise CheckFailed("nothing was returned", case, hint="Is a return missing?")
    if not isinstance(got, list | tuple) or not all(is_whole(page) for page in got):
        raise CheckFailed("expected a list of pages", case, got=describe(got))
    return (list(got),)


def append_facts(got: list[int], right: list[int], case: Case) -> str:
    """Return what a wrong table tells."""
    if len(set(got)) != len(got):
        return "Is one page in the table twice?"
    if sorted(got) == sorted(right):
        return "Are the pages in the order of the tokens, the new ones at the end?"
    if len(got) == len(right) and got[: len(case["table"])] == case["table"]:
        return "From which end of the free pages are they taken?"
    return "How many pages do all tokens need, old and new?"


def _is_table(table: list[int], length: int, new: int, page_size: int, free: list[int]) -> bool:
    """Return whether a table holds its tokens, and no page is there twice."""
    return (
        page_size >= 1 and length <= len(table) * page_size and len({*table, *free}) == len(table) + len(free)
    )


APPEND = Family(
    append,
    append_cases,
    (Part(broken="this is not the request's table", facts=append_facts, shown=Words, mistakes={
        "Are the new tokens counted from the end of the last page? They follow the last token.": (
            _append(start="page"), _append(start="page", refuse=False)),
        "Is a page taken although the one before is not full, or exactly full?": (_append(rounding="over"), _append(rounding="over", refuse=False)),
        "A page that is only begun is needed, too. Is that rounded up?": (_append(rounding="down"), _append(rounding="down", refuse=False)),
        "Are the old tokens counted, too?": (_append(start="nothing"), _append(start="nothing", refuse=False), _append(start="nothing", keep="plus")),
        "Are all free pages taken? Take what is needed.": (_append(every=True), _append(every=True, refuse=False)),
        "Those are the new pages. Where are the request's own?": _append(keep="new"),
        "Are the pages in the order of the tokens, the new ones at the end?": (_append(keep="before"), _append(keep="sorted")),
        "Is one page in the table twice?": _append(keep="twice"),
        "There is more room already than is needed. What does a negative number of pages take?": (
            _append(guard=False), _append(guard=False, refuse=False)),
        "There is more room already than is needed. Are pages taken out of the table?": _append(keep="cut"),
        "From which end of the free pages are they taken?": _append(end=-1),
        "There are just as many pages as are needed. Are more asked for?": (_append(spare=1), _never_all),
        "The table may have room already, in a page that holds no token yet. Are pages counted from the length alone?": _by_length,
        "A slice that is too long is cut silently. What compares what is needed with what is free?": _append(refuse=False),
        "The last token has a place already. Is one token left out?": _append(start="less"),
    }),),
    kind=append_kind,
    valid=_is_table,
    refusals=("too few free pages were not refused", "it refused what fits"),
)  # fmt: skip
