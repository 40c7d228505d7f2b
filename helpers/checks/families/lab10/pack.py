"""Exercise 10.2: two codes of 4 bits in a byte."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain


def pack(
    codes: Sequence[int], *, first: str = "low", lowest: int = -8, highest: int = 7, clamped: bool = True, masked: bool = True,
    shifted: int = 0, pairs: str = "neighbours", wide: int = 4, joined: str = "or", wraps: int = 0,
) -> list[int]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    codes = [(code + 2 ** (wraps - 1)) % 2**wraps - 2 ** (wraps - 1) for code in codes] if wraps else codes
    nibbles = [min(max(code, lowest), highest) if clamped else code for code in codes]
    nibbles = [(code + shifted) & 15 if masked else code + shifted for code in nibbles]
    half = len(nibbles) // 2
    left, right = (nibbles[::2], nibbles[1::2]) if pairs == "neighbours" else (nibbles[:half], nibbles[half:])
    if first == "high":
        left, right = right, left
    if joined == "or":
        return [a | b << wide for a, b in zip(left, right, strict=True)]
    return [a + (b << wide) for a, b in zip(left, right, strict=True)]


def _pack(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda codes: pack(codes, **options)


def _one_each(codes: Sequence[int]) -> list[int]:
    """Give every code a byte of its own."""
    return [min(max(code, -8), 7) & 15 for code in codes]


def pack_cases(draw: random.Random) -> Iterator[Case]:
    """Yield rows: none, positive and negative codes in either half, the ends of the range, codes beyond it."""
    for codes in (
        [],
        [1, 2],
        [0, 5],
        [-1, 3],
        [3, -1],
        [-8, 7],
        [7, -8],
        [8, 0],
        [0, -9],
        [1, 2, 3, 4],
        [15, -16],
        [200, -300],
        [-1000, 128],
        [70_000, -70_000],
        [40_000, -40_000],
        [3 * 10**9, -3 * 10**9],
        [2**62, -(2**62)],
        list(range(-30, 34)),
        [(i * 7) % 16 - 8 for i in range(600)],
    ):
        yield {"codes": codes}
    while True:
        most = draw.choice((7, 7, 9, 40))
        yield {"codes": [draw.randint(-most - 1, most) for _ in range(2 * draw.randrange(1, 6))]}


def pack_kind(got: Any, case: Case) -> tuple[list[int]]:
    """Return the bytes as a list. Raises CheckFailed when they are something else."""
    got = plain(got.tolist() if isinstance(got, Tensor) and got.dim() == 1 else got)
    if got is None:
        raise CheckFailed("there are no bytes yet", case, got=got, hint="Is a return missing?")
    got = list(got) if isinstance(got, Sequence) and not isinstance(got, str) else got
    if not isinstance(got, list) or not all(is_whole(one) for one in got):
        raise CheckFailed("expected a list of whole numbers", case, got=describe(got))
    return (got,)


def pack_facts(got: list[int], right: list[int], case: Case) -> str:
    """Return what the number and the size of the bytes tell."""
    if len(got) != len(right):
        return f"{len(case['codes'])} codes fill {len(right)} bytes. Is each pair packed once?"
    if any(not 0 <= one <= 255 for one in got):
        return "A byte is 0 to 255. What do the lowest 4 bits of a negative number look like (`& 15`)?"
    return ""


PACK = Family(
    pack,
    pack_cases,
    (Part("bytes", broken="not these", facts=pack_facts, mistakes={
        "The first code of a pair lies in the lower half. Is it in the upper one?": _pack(first="high"),
        "A code beyond the ends gets the nearest end. Here it comes out at the other end: is it clamped before its 4 bits are taken?": _pack(clamped=False),
        "Are the 4 bits of a negative code taken (`& 15`)? Its higher bits are all 1.": (
            _pack(masked=False), _pack(masked=False, joined="add")),
        "Ascend's int4 is two's complement: -1 is 0xF. Is 8 added, so that codes begin at 0?": _pack(shifted=8),
        "Codes go from -8 to 7 here. Is everything below 0 cut off?": (_pack(lowest=0), _pack(lowest=0, highest=15)),
        "4 bits hold -8, too. Is the range cut to -7?": _pack(lowest=-7),
        "4 bits with a sign hold 7 at most. Is a larger code let through?": (_pack(highest=8), _pack(highest=15)),
        "A code may be of any size. Does it go through a type of 8 bits first?": _pack(wraps=8),
        "A code may be of any size. Does it go through a type of 16 or of 32 bits first?": (_pack(wraps=16), _pack(wraps=32)),
        "Which two share a byte: neighbours, or one of each half of the row?": _pack(pairs="halves"),
        "Is the second code shifted by 4 bits?": (_pack(wide=0), _pack(wide=0, joined="add"), _pack(wide=3), _pack(wide=8)),
        "Two codes share a byte. Has each its own here?": _one_each,
    }),),
    kind=pack_kind,
    valid=lambda codes: len(codes) % 2 == 0,
)  # fmt: skip
