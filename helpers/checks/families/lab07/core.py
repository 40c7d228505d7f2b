"""Exercise 7.5: cores to choose a tile for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from helpers.checks.families import flash_answers as answers
from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part
from helpers.checks.machinery.values import is_whole, plain

KIB = 1024
A2 = {"l0a": 64, "l0b": 64, "l0c": 128, "l1": 512, "ub": 192}  # KiB, as all below
HELD = {
    "l0a": "L0A holds the left factor of both products. What stands left in the second one?",
    "l0b": "L0B holds the right factor of both products: a block of keys, and one of values, 2 bytes each.",
    "l0c": "L0C holds the results of both products, and in which type?",
    "l1": "L1 holds the queries, the weights, and two blocks of keys and two of values. Are all counted?",
    "ub": "UB holds scores in fp32 and weights in 16 bits, for half of a tile's queries. Are both counted?",
}


def core_cases(draw: random.Random) -> Iterator[Case]:
    """Yield cores in which now one buffer is the smallest and now another, and ones that no tile fits into."""
    for head_dim, changed in (
        (128, {}), (64, {}), (192, {}), (64, {"l0a": 512}), (64, {"l0c": 256}), (128, {"l0c": 256, "l1": 1024, "ub": 256}), (80, {"l0b": 16}),
        (128, {"l0b": 16}), (128, {"l0a": 256, "l0c": 64}), (128, {"l1": 200}), (64, {"ub": 24}), (256, {"l0a": 4}), (128, {"l0c": 4}), (256, {"l0b": 4}),
        (64, {"ub": 1}), (64, {"l1": 9}), (128, {"l1": 160}),
    ):  # fmt: skip
        yield {"head_dim": head_dim, **{name: size * KIB for name, size in (A2 | changed).items()}}
    while True:
        sizes = {name: draw.choice((size // 4, size // 2, size, size, 2 * size)) for name, size in A2.items()}
        for name in draw.sample(list(sizes), draw.randrange(3)):
            sizes[name] = draw.randrange(4, A2[name] + 1)
        yield {
            "head_dim": (head_dim := draw.choice((48, 64, 80, 128, 192, 256))),
            # a bit less than a multiple of 16 vectors at times
            **{name: size * KIB - draw.choice((0, 0, 2 * head_dim)) for name, size in sizes.items()},
        }


def core_kind(got: Any, case: Case) -> tuple[Any]:
    """Return the two sizes, or None. Raises CheckFailed when the result is something else."""
    got = plain(got)
    if got is None:
        return (None,)
    if not isinstance(got, tuple | list) or len(got) != 2 or not all(is_whole(n) and n > 0 for n in got):
        raise CheckFailed("expected two whole numbers from 1, or None", core_shown(case), got=describe(got))
    return (tuple(got),)


def core_shown(case: Case) -> dict[str, Any]:
    """Return a case in KiB."""
    return {name: Words(f"{n / KIB:g} KiB" if name in A2 else n) for name, n in case.items()}


def _core_words(got: tuple[int, int] | None, right: tuple[int, int] | None, case: Case) -> tuple[str, str]:
    """Return what is wrong with a tile that is not the best one, and the question that may help."""
    if got is None:
        return "a tile fits, and none was given", ""
    if got[0] % 16 or got[1] % 16:
        return (
            "not multiples of 16",
            "The cube unit multiplies pieces of 16 x 16. Which sizes waste none of it?",
        )
    sizes = {name: case[name] for name in A2}
    if small := answers.too_small(case["head_dim"], *got, sizes):
        need = answers.needs(case["head_dim"], *got)[small[0]]
        return (
            f"the tile needs {need / KIB:g} KiB of {small[0].upper()}, which has {sizes[small[0]] / KIB:g}",
            HELD[small[0]],
        )
    if right is None or got[0] < right[0]:
        return (
            "a larger block of queries fits",
            "Which of the two sizes decides how often keys and values are read?",
        )
    return (
        "a larger block of keys fits",
        "With this block of queries, is there room for more keys in each step?",
    )


def _powers(head_dim: int, **sizes: int) -> tuple[int, int] | None:
    """Try powers of two alone."""
    powers = [2**n for n in range(4, 13)]
    return max(
        ((q, k) for q in powers for k in powers if not answers.too_small(head_dim, q, k, sizes)), default=None
    )


def _whole_in_one(head_dim: int, **sizes: int) -> tuple[int, int] | None:
    """Hold all queries' scores in one UB."""
    return answers.choose(head_dim, **{**sizes, "ub": sizes["ub"] // 2})


def _twice(head_dim: int, **sizes: int) -> tuple[int, int] | None:
    """Count everything twice."""
    return answers.choose(head_dim, **{name: size // 2 for name, size in sizes.items()})


CORE = Family(
    answers.choose,
    core_cases,
    (Part(
        broken=lambda got, right, case: _core_words(got, right, case)[0], facts=lambda got, right, case: _core_words(got, right, case)[1],
        mistakes={
            "Are only powers of two tried? Any multiple of 16 will do.": _powers,
            "Is a return missing?": lambda **case: None,
            "Each buffer holds what the table says, once. Does a tile take twice as much?": _twice,
            "Each vector unit has a UB of its own and half of the queries. Is there a larger block of queries or of keys?": _whole_in_one,
        },
    ),),
    kind=core_kind,
    shown=core_shown,
    count=70,
)  # fmt: skip
