"""Exercise 6.3: keys in pages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part
from helpers.checks.machinery.values import close


def gather(cache: Tensor, table: list[int], length: int) -> Tensor:
    """Return the right answer."""
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
    if got.shape != right.shape or got.dtype != right.dtype:
        return "wrong in shape or type"
    wrong = [t for t in range(len(right)) if not close(got[t], right[t])]
    return f"wrong values, first those of token {wrong[0]}" if wrong else "wrong values"


def gather_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Return a question about where a token is, or what a changed type is for."""
    if got.dtype != right.dtype:
        return "The keys have the cache's type. Where does another one come in?"
    return "In which page, and at which slot of it, is token t?"


def _first_slots(cache: Tensor, table: list[int], length: int) -> Tensor:
    """Take as many slots from the first page on."""
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
