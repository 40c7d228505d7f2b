"""Lab 6, paged attention: tables that grow, keys in pages, workloads for a page size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import close, is_whole, plain

# 2: append


def append(
    table: list[int], length: int, new: int, page_size: int, free: list[int], *, start: str = "token", rounding: str = "up",
    every: bool = False, keep: str = "all", guard: bool = True, refuse: bool = True, spare: int = 0, end: int = 1,
) -> list[int]:  # fmt: skip
    """The reference; with one of the options changed a wrong answer. Raises ValueError when pages are missing."""
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
        "There are just as many pages as are needed. Are more asked for?": _append(spare=1),
        "A slice that is too long is cut silently. What compares what is needed with what is free?": _append(refuse=False),
        "The last token has a place already. Is one token left out?": _append(start="less"),
    }),),
    kind=append_kind,
    valid=_is_table,
    refusals=("too few free pages were not refused", "it refused what fits"),
)  # fmt: skip


# 3: gather


def gather(cache: Tensor, table: list[int], length: int) -> Tensor:
    """The reference."""
    return cache[table].flatten(0, 1)[:length]


def gather_cases(draw: random.Random) -> Iterator[Case]:
    """Yield caches of any type whose unused slots are NaN; tables in any order, last pages full or not."""
    for page_size, table, length in (
        (1, [3], 1),
        (4, [6, 0], 8),
        (4, [5, 2, 7], 10),
        (2, [3], 1),
        (3, [1, 2, 3], 7),
        (8, [4], 5),
        (1, [7, 1, 6, 2], 4),
    ):
        yield _filled(draw, 8, page_size, table, length, (2, 3), torch.float32)
    while True:
        pages, page_size = draw.randrange(1, 12), draw.choice((1, 2, 4, 16))
        table = draw.sample(range(pages), draw.randrange(1, pages + 1))
        length = len(table) * page_size - draw.choice((0, draw.randrange(page_size)))
        dtype = draw.choice((torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64))
        yield _filled(
            draw, pages, page_size, table, length, (draw.randrange(1, 4), draw.choice((1, 3, 8))), dtype
        )


def _filled(
    draw: random.Random,
    pages: int,
    page_size: int,
    table: list[int],
    length: int,
    shape: tuple[int, int],
    dtype: torch.dtype,
) -> Case:
    """Return a case; pages of other requests hold large numbers, unused slots NaN."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    cache = torch.full((pages, page_size, *shape), float("nan"))
    slots = [table[t // page_size] * page_size + t % page_size for t in range(length)]
    cache.view(-1, *shape)[slots] = torch.randn(length, *shape, generator=generator)
    for other in set(range(pages)) - set(table):
        cache[other] = 1000.0 + other
    return {"cache": cache.to(dtype), "table": table, "length": length}


def gather_kind(got: Any, case: Case) -> tuple[Tensor]:
    """Return the tensor. Raises CheckFailed when it is none."""
    if got is None:
        raise CheckFailed("the keys: nothing was returned", gather_shown(case), hint="Is a return missing?")
    if not isinstance(got, Tensor):
        raise CheckFailed("the keys: expected a tensor", gather_shown(case), got=describe(got))
    return (got,)


def gather_shown(case: Case) -> dict[str, Any]:
    """Return what matters of a case."""
    cache = case["cache"]
    return {"cache": cache, "page size": cache.shape[1], "table": case["table"], "length": case["length"]}


def tensor_broken(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what is wrong with a tensor."""
    return (
        "wrong in shape or type" if got.shape != right.shape or got.dtype != right.dtype else "wrong values"
    )


def gather_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Ask where a token is, or what a changed type is for."""
    if got.dtype != right.dtype:
        return "The keys have the cache's type. Where does another one come in?"
    return "In which page, and at which slot of it, is token t?"


def _first_slots(cache: Tensor, table: list[int], length: int) -> Tensor:
    """Takes as many slots from the first page on."""
    first = table[0] * cache.shape[1]
    return cache.flatten(0, 1)[first : first + length]


GATHER = Family(
    gather,
    gather_cases,
    (Part("the keys", broken=tensor_broken, facts=gather_facts, same=close, mistakes={
        "Are that whole pages? The unused slots of the last one would take part in the attention.": lambda cache, table, length: cache[table].flatten(0, 1),
        "Pages and their slots are two dimensions here. Which shape is asked for?": lambda cache, table, length: cache[table],
        "Is the table used? A request's pages do not lie at the beginning, and need not lie side by side.": lambda cache, table, length: cache.flatten(0, 1)[:length],
        "Do the request's pages lie side by side? Only its table says where the next one is.": _first_slots,
        "The order of the table is the order of the tokens. Is it kept?": lambda cache, table, length: cache[sorted(table)].flatten(0, 1)[:length],
        "The order of the table is the order of the tokens. Is it reversed?": lambda cache, table, length: cache[table[::-1]].flatten(0, 1)[:length],
        "Is the table read as slots? Its entries are pages.": lambda cache, table, length: cache.flatten(0, 1)[table],
        "Is the first slot of every page taken, and the others not?": lambda cache, table, length: cache[table, 0],
        "The keys have the cache's type. Is it changed on the way?": (
            lambda cache, table, length: gather(cache, table, length).float(), lambda cache, table, length: gather(cache, table, length).double()),
    }),),
    kind=gather_kind,
    tensors=True,
    shown=gather_shown,
    count=120,
)  # fmt: skip


# 5: the page size


def page_size(
    lengths: list[int], shared: int, sizes: Sequence[int], most_wasted: float, *, pick: str = "largest", strict: bool = False,
    **options: Any,
) -> int | None:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
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
    """Ask for what a waste is made of."""
    if right is None:
        return "Every size wastes too much here. What is returned then?"
    return "For one size: how many pages are there, and how many of their slots hold a token?"


def _none(**case: Any) -> None:
    """Never finds a size."""


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
