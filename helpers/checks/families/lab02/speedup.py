"""Exercise 2.5: operator tables."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part, Wrong

Row = tuple[str, int, float, float]


def speedup(
    rows: Sequence[Row], wall: float, names: Sequence[str], factor: float, *, column: int = 3, calls: str = "all", listed: bool = False,
    left: str = "faster", inverse: bool = False, pick: str = "sum", empty: Any = None, like: str = "", once: bool = False,
) -> float:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    if empty is not None and not names:
        return float(factor if empty == "factor" else empty)
    chosen = [row for row in rows if _is_named(row[0], names, like) and (row[1] > 1 or not once)]
    times = [
        float(row[column]) * {"all": 1, "each": row[1]}.get(calls, 1) / (row[1] if calls == "one" else 1)
        for row in chosen
    ]
    if pick == "last":
        times = list({row[0]: time for row, time in zip(chosen, times, strict=True)}.values())
    if pick == "first":
        times = list({row[0]: time for row, time in zip(chosen[::-1], times[::-1], strict=True)}.values())
    own = max(times, default=0.0) if pick == "max" else sum(times)
    total = sum(row[3] for row in rows) if listed else wall
    rest = {"faster": own / factor, "gone": 0.0, "saved": own - own / factor}[left]
    new = total - own + rest
    if new <= 0:
        return 0.0
    return new / total if inverse else total / new


def _is_named(name: str, names: Sequence[str], like: str) -> bool:
    """Return whether an operator is one of those named; with `like`, whether a part of a name is enough."""
    if like == "in":
        return any(one in name for one in names)
    return any(name in one for one in names) if like == "around" else name in names


def _speedup(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: speedup(**case, **options)


def _multiplied(rows: Sequence[Row], wall: float, names: Sequence[str], factor: float) -> float:
    """Multiply the speedups of single operators."""
    return math.prod(speedup(rows, wall, [name], factor) for name in names)


def table_cases(draw: random.Random) -> Iterator[Case]:
    """Yield tables in which names come twice or not at all, operators hold others, and Python takes any share of the pass."""
    for names, factor in ((("addmm",), 2.0), (("rms_norm", "mean", "mul"), 4.0), (("linear", "addmm"), 3.0), ((), 2.0),
                          (("softmax",), 2.0), (("addmm",), 1.0), (("silu", "softmax"), 8)):  # fmt: skip
        yield {"rows": list(_ROWS), "wall": 25.0, "names": list(names), "factor": factor}
    yield {"rows": [*_ROWS, ("addmm", 4, 1.0, 1.0)], "wall": 25.0, "names": ["addmm"], "factor": 2.0}
    yield {"rows": [], "wall": 5.0, "names": ["addmm"], "factor": 2.0}
    yield {"rows": [("mul", 3, 4.0, 4.0)], "wall": 4.0, "names": ["mul"], "factor": 2.0}
    while True:
        words = ("linear", "add", "addmm", "norm", "rms_norm", "mul", "matmul")
        rows: list[Row] = []
        for _ in range(draw.randrange(1, 8)):
            own = draw.randrange(1, 100) / 4
            rows.append(
                (
                    draw.choice(words),
                    draw.choice((1, draw.randrange(1, 130))),
                    own + draw.choice((0.0, 3.0, 20.0)),
                    own,
                )
            )
        listed = sum(row[3] for row in rows)
        chosen = draw.sample((*words, "softmax"), draw.randrange(4))
        yield {
            "rows": rows,
            "wall": listed + draw.choice((0.0, 0.5, 30.0)),
            "names": chosen,
            "factor": draw.choice((1.0, 1.5, 2.0, 10.0)),
        }


# Milliseconds of a pass, as a profiler lists them: name, calls, with what it called, by itself.
_ROWS: list[Row] = [
    ("linear", 121, 14.0, 0.8), ("addmm", 121, 13.2, 13.2), ("rms_norm", 61, 2.4, 0.3), ("mean", 61, 0.9, 0.9),
    ("mul", 122, 1.2, 1.2), ("scaled_dot_product_attention", 30, 1.5, 1.5), ("silu", 30, 0.5, 0.5),
]  # fmt: skip


def _is_table(rows: Sequence[Row], wall: float, names: Sequence[str], factor: float) -> bool:
    """Return whether a table's times lie within the pass."""
    fit = all(len(row) == 4 and row[1] >= 1 and 0 < row[3] <= row[2] for row in rows)
    return (
        fit
        and factor >= 1
        and wall > 0
        and wall >= sum(row[3] for row in rows)
        and len({*names}) == len(names)
    )


SPEEDUP = Family(
    speedup,
    table_cases,
    (Part(mistakes={
        "An operator's total holds the operators that it called. Is time counted twice?": (_speedup(column=2), _speedup(column=2, pick="max")),
        "Is the time for all calls, or for one?": (_speedup(calls="each"), _speedup(calls="one")),
        "Between operators there is Python. Is that in the pass, too?": _speedup(listed=True),
        "Does the rest of the pass become faster, too?": (
            lambda rows, wall, names, factor: factor if names else 1.0, lambda rows, wall, names, factor: factor),
        "What remains of the operators' time when they are faster?": (_speedup(left="gone"), _speedup(left="saved")),
        "Is that the share of the time that is left, or how many times as fast?": (
            _speedup(inverse=True), lambda rows, wall, names, factor: speedup(rows, wall, names, factor, inverse=bool(names))),
        "An operator may be listed more than once. Do all its rows count?": (_speedup(pick="last"), _speedup(pick="first")),
        "Is only one of the operators sped up?": _speedup(pick="max"),
        "A name is compared as a whole: mul is not matmul. Is a part of a name enough?": (_speedup(like="in"), _speedup(like="around")),
        "An operator that is called once takes its time, too. Is it left out?": _speedup(once=True),
        "Several operators: their savings add up. Are their speedups multiplied?": _multiplied,
        "Twice as fast is 2. Is that how much faster it becomes?": (
            lambda **c: speedup(**c) - 1, lambda **c: 100 * (speedup(**c) - 1), lambda **c: 100 * speedup(**c)),
        "A factor may be a fraction. Is it cut?": lambda **c: speedup(**{**c, "factor": int(c["factor"])}),
        "Is the result rounded?": tuple(lambda digits=digits, **c: round(speedup(**c), digits) for digits in (1, 2, 3, 4)),
        "Nothing became faster here. What is the answer then?": (_speedup(empty="factor"), _speedup(empty=0.0)),
    }),),
    valid=_is_table,
)  # fmt: skip
