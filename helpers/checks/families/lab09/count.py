"""Exercise 9.1: kernels of one operator or of several."""

from __future__ import annotations

import operator as operators
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Operator = dict[str, Any]
Counted = tuple[int, int]


def count(
    groups: Sequence[Sequence[Operator]], sizes: Mapping[str, int], needed: Sequence[str], *, launches: str = "groups",
    inside: bool = False, once: bool = True, read: bool = True, written: bool = True, keep: str = "right", own: bool = False,
    everything: bool = False, next_alone: bool = False, doubled: bool = False, on_chip: bool = False, inputs: bool = False,
) -> Counted:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    nbytes, known = 0, set[str]()
    for i, group in enumerate(groups):
        made = [one["writes"] for one in group]
        names = [name for one in group for name in one["reads"] if inside or name not in made]
        later = {
            name
            for other in groups[i + 1 : i + 2 if next_alone else None]
            for one in other
            for name in one["reads"]
        }
        later |= {name for one in group for name in one["reads"]} if own else set()
        wanted = {"right": later | {*needed}, "needed": {*needed}, "later": later, "all": {*made},
                  "parts": {name for name in made if name in " ".join([*later, *needed])}}[keep]  # fmt: skip
        wanted = {made[-1]} if keep == "right" and everything and made else wanted
        names = [name for name in names if not on_chip or name not in known]
        known |= {name for one in group for name in one["reads"]}
        reads = sum(sizes[name] for name in ({*names} if once else names)) if read else 0
        nbytes += reads + (sum(sizes[name] for name in made if name in wanted) if written else 0)
        nbytes += sum(sizes[name] for name in made if name in later and name in needed) if doubled else 0
    made_here = {one["writes"] for group in groups for one in group}
    nbytes += sum(sizes[name] for name in needed if name not in made_here) if inputs else 0
    number = {
        "groups": len(groups),
        "operators": sum(map(len, groups)),
        "fused": sum(len(g) > 1 for g in groups),
    }
    return number[launches], nbytes


def _count(part: int, **options: Any) -> Wrong:
    """Return a wrong answer to one part."""
    return lambda **case: count(**case, **options)[part]


def _sizes_once(groups: Sequence[Sequence[Operator]], sizes: Mapping[str, int], needed: Sequence[str]) -> int:
    """Count each tensor once in the whole pass."""
    names = {n for group in groups for one in group for n in (*one["reads"], one["writes"])}
    return sum(sizes[name] for name in names)


def operator(writes: str, *reads: str) -> Operator:
    """Return an operator."""
    return {"reads": list(reads), "writes": writes}


def count_cases(draw: random.Random) -> Iterator[Case]:
    """Yield passes: none, operators alone, all in one kernel, results and inputs that are needed, sizes beyond 32 bits."""
    sizes = {"x": 8, "r": 8, "w": 8, "t": 8, "s": 8, "m": 1, "y": 8, "t1": 8}
    norm = [
        operator("t", "x", "r"),
        operator("s", "t", "t"),
        operator("m", "s"),
        operator("y", "t", "m", "w"),
    ]
    for groups, needed in (
        ([], []), ([[norm[0]]], ["t"]), ([[one] for one in norm], ["y", "t"]), ([norm], ["y", "t"]), ([norm], ["y"]),
        ([norm[:1], norm[1:]], ["y", "t"]), ([norm[:2], norm[2:]], ["y"]), ([norm[:3], norm[3:]], ["y"]), ([[norm[0]]], []),
        ([[operator("t", "x")], [operator("t1", "x")], [operator("y", "t1", "w")]], ["y"]), ([[norm[0]]], ["x", "t"]),
    ):  # fmt: skip
        yield {"groups": groups, "sizes": sizes, "needed": needed}
    while True:
        yield _pass(draw)


def _pass(draw: random.Random) -> Case:
    """Return a pass of any shape."""
    known = [f"in{i}" for i in range(draw.randrange(1, 4))]
    most = draw.choice((100, 100, 100, 2**36))
    sizes = {name: draw.randrange(1, most) for name in known}
    groups, made = list[list[Operator]](), list[str]()
    for number in range(draw.randrange(1, draw.choice((3, 6, 14)))):
        reads = [draw.choice(known) for _ in range(draw.randrange(1, 4))]
        name = f"t{number}"
        if not groups or draw.random() < 0.5:
            groups.append([])
        groups[-1].append(operator(name, *reads))
        known.append(name)
        made.append(name)
        sizes[name] = draw.randrange(1, most)
    needed = [name for name in known if name == made[-1] or draw.random() < 0.2]
    return {"groups": groups, "sizes": sizes, "needed": needed}


def count_kind(got: Any, case: Case) -> Counted:
    """Return the two numbers. Raises CheckFailed when they are something else."""
    got = plain(got)
    if not isinstance(got, tuple | list) or len(got) != 2:
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("expected two numbers: launches, bytes", case, got=describe(got), hint=hint)
    for name, number in zip(("launches", "bytes"), got, strict=True):
        if not is_whole(number) and not (isinstance(number, float) and number.is_integer()):
            raise CheckFailed(f"{name}: expected a whole number", case, got=describe(number))
    return int(got[0]), int(got[1])


def count_facts(got: int, right: int, case: Case) -> str:
    """Return what a number below 0, or nearly the right one, tells."""
    near = right >= 2**24 and got != right and abs(got - right) <= right * 1e-6
    below = "Is something counted in 32 bits, which end at 2 147 483 647?" if got < 0 else ""
    return "Nearly right: is something counted in fp32, which has 24 bits?" if near else below


def _is_pass(groups: Sequence[Sequence[Operator]], sizes: Mapping[str, int], needed: Sequence[str]) -> bool:
    """Return whether every tensor has a size, is made once, before it is read, and what is needed is made."""
    made = list[str]()
    inputs = {name for name in sizes if name not in {one["writes"] for group in groups for one in group}}
    for group in groups:
        if not group:
            return False
        for one in group:
            if (
                len(one) != 2
                or not one["reads"]
                or any(n not in inputs and n not in made for n in one["reads"])
            ):
                return False
            made.append(one["writes"])
    whole = len({*made}) == len(made) and len({*needed}) == len(needed) and all(n in sizes for n in needed)
    return whole and all(name in sizes for name in made) and all(size >= 1 for size in sizes.values())


COUNT = Family(
    count,
    count_cases,
    (
        Part("launches", mistakes={
            "Each group is one kernel. Are its operators counted one by one?": _count(0, launches="operators"),
            "A group of one operator is a kernel, too. Are only the fused ones counted?": _count(0, launches="fused"),
        }),
        Part("bytes", same=operators.eq, facts=count_facts, mistakes={
            "What is made inside a kernel stays there. Is it read from memory, and written to it?": (
                _count(1, inside=True, keep="all"), _count(1, inside=True, keep="all", once=False)),
            "What is made inside a kernel is not read from memory. Is it counted?": (_count(1, inside=True), _count(1, inside=True, once=False)),
            "Does everything that a kernel makes go to memory? Only what a later kernel reads, or what is needed at the end.": _count(1, keep="all"),
            "What a later kernel reads must be in memory. Is it written?": _count(1, keep="needed"),
            "What is needed at the end must be in memory. Is it written?": _count(1, keep="later"),
            "Who reads a result: a later kernel, or the same one? Inside a kernel nothing need be written.": _count(1, own=True),
            "A kernel may write several results. Is it only the last one?": _count(1, everything=True),
            "A kernel reads each tensor once, however often its operators name it. Is one counted twice?": _count(1, once=False),
            "Any later kernel may read a result. Is it only the next one?": _count(1, next_alone=True),
            "What is needed at the end and read before is written once. Is it counted twice?": _count(1, doubled=True),
            "Each kernel reads for itself. Is a tensor still on the chip that an earlier kernel has read?": _count(1, on_chip=True),
            "An input is in memory already. Is it written because it is needed?": _count(1, inputs=True),
            "Names are compared whole. Is one found inside another?": _count(1, keep="parts"),
            "Are writes counted?": _count(1, written=False),
            "Are reads counted?": _count(1, read=False),
            "That counts each tensor once. How often does each kernel read it?": _sizes_once,
        }),
    ),
    kind=count_kind,
    valid=_is_pass,
)  # fmt: skip
