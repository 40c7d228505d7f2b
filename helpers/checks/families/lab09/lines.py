"""Exercise 9.5: walks over a matrix, in front of a small cache."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain


def fetched(
    rows: int, columns: int, tile: int, per_line: int, kept: int, *, walk: str = "tiles", layout: str = "rows", recent: bool = True,
    cache: bool = True, endless: bool = False, cut: bool = True, rest: bool = True, aligned: bool = False, numbers: bool = False,
    more: int = 0,
) -> int:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    width = {"tiles": tile, "columns": 1}[walk]
    room = 10**9 if endless else max(1, kept // per_line) if numbers else kept + more
    lines, count = dict[int, None](), 0
    for row, column in _places(rows, columns, width, cut, rest):
        stride = -(-columns // per_line) * per_line if aligned else columns
        at = (row * stride + column if layout == "rows" else column * rows + row) // per_line
        if cache and at in lines:
            if recent:
                del lines[at]
                lines[at] = None
            continue
        count += 1
        lines[at] = None
        if len(lines) > room:
            del lines[next(iter(lines))]
    return count


def _places(rows: int, columns: int, width: int, cut: bool, rest: bool) -> Iterator[tuple[int, int]]:
    """Yield the places of a walk, tile by tile; `cut` ends the last tile at the matrix, without `rest` it is left out."""
    for start in range(0, columns if rest else columns - columns % width, width):
        for row in range(rows):
            for column in range(start, min(start + width, columns) if cut else start + width):
                yield row, column


def _blocks_of_rows(rows: int, columns: int, tile: int, per_line: int, kept: int) -> int:
    """Cut the rows into tiles in place of the columns."""
    lines, count = list[int](), 0
    for start in range(0, rows, tile):
        for column in range(columns):
            for row in range(start, min(start + tile, rows)):
                at = (row * columns + column) // per_line
                count += at not in lines
                lines = [*(line for line in lines if line != at), at][-kept:]
    return count


def _fetched(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: fetched(**case, **options)


def lines_cases(draw: random.Random) -> Iterator[Case]:
    """Yield matrices: one number, along rows and along columns, tiles that come out even or not, caches small and large."""
    for numbers in (
        (1, 1, 1, 1, 1), (4, 8, 8, 4, 1), (4, 8, 1, 4, 1), (4, 8, 1, 4, 4), (4, 8, 4, 4, 1), (3, 10, 4, 4, 2), (8, 6, 2, 4, 7), (5, 7, 3, 16, 2),
        (6, 9, 2, 4, 3), (12, 16, 1, 4, 12), (12, 16, 1, 4, 11), (70, 12, 5, 4, 30), (70, 6, 1, 3, 70), (9, 16, 4, 3, 5),
    ):  # fmt: skip
        yield dict(zip(("rows", "columns", "tile", "per_line", "kept"), numbers, strict=True))
    while True:
        rows, columns = draw.randrange(1, 15), draw.randrange(1, 25)
        per_line = draw.choice((1, 2, 3, 4, 4, 6, 8, 16))
        some = draw.randrange(1, 20)
        kept = draw.choice((1, 2, rows, max(1, rows - 1), rows + 1, some, rows * per_line))
        tile = draw.choice((1, 2, columns, draw.randrange(1, columns + 1)))
        yield {
            "rows": rows,
            "columns": columns,
            "tile": tile,
            "per_line": per_line,
            "kept": kept,
        }


def lines_kind(got: Any, case: Case) -> tuple[int]:
    """Return the number. Raises CheckFailed when it is no whole one."""
    got = plain(got)
    if got is None or got is Ellipsis:
        hint = "Replace the dots by your answer." if got is Ellipsis else "Is a return missing?"
        raise CheckFailed("there is no value yet", case, got=got, hint=hint)
    if isinstance(got, float) and got.is_integer():
        got = int(got)
    if not is_whole(got):
        raise CheckFailed("expected a number of lines", case, got=describe(got))
    return (got,)


LINES = Family(
    fetched,
    lines_cases,
    (Part(mistakes={
        "The cache keeps lines. Is every number fetched anew?": _fetched(cache=False),
        "Here each line comes once. The cache holds `kept` lines and no more. Does it forget? And is the loop over the blocks the outer one, the loop over the rows within?": _fetched(endless=True),
        "Which line is forgotten: the one that came first, or the one that was not used for longest?": _fetched(recent=False),
        "Numbers of a row lie side by side. Is the matrix laid out by columns here?": _fetched(layout="columns"),
        "Does `tile` count? This goes down one column after the other.": _fetched(walk="columns"),
        "A tile is some columns of all rows. Are rows cut into tiles?": _blocks_of_rows,
        "The last tile may be narrower. Is it left out?": _fetched(rest=False),
        "The last tile ends with the matrix. Does it go beyond?": _fetched(cut=False),
        "A row need not begin with a line: the matrix is one piece of memory. Does each row begin a new one?": _fetched(aligned=True),
        "`kept` counts lines, not numbers. Is it divided?": _fetched(numbers=True),
        "Does the cache hold exactly `kept` lines, the new one among them?": (_fetched(more=1), _fetched(more=-1)),
    }),),
    kind=lines_kind,
    valid=lambda rows, columns, tile, per_line, kept: min(rows, columns, tile, per_line, kept) >= 1,
)  # fmt: skip
