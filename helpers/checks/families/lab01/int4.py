"""Exercise 1.3: weights of 4 bits in groups."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import torch

from helpers.checks.machinery.family import Case, Family, Part, Wrong


def int4_bytes(
    num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int, *, groups: str = "up", extras: str = "both",
    divide: float = 8,
) -> float:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    count: float = {
        "up": -(-num_weights // group_size), "down": num_weights // group_size, "exact": num_weights / group_size,
        "each": num_weights, "one": 1, "over": num_weights // group_size + 1, "near": round(num_weights / group_size),
    }[groups]  # fmt: skip
    extra = {"both": scale_bits + zero_point_bits, "scale": scale_bits, "zero": zero_point_bits, "none": 0}[
        extras
    ]
    weights = count * group_size if extras == "padded" else num_weights
    return (4 * weights + count * extra) / divide


def _int4(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: int4_bytes(**case, **options)


def _whole(**case: Any) -> float:
    """Cut or fill the last byte."""
    return int4_bytes(**case) // 1


def _padded(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
    """Fill the last group."""
    return int4_bytes(-(-num_weights // group_size) * group_size, group_size, scale_bits, zero_point_bits)


def _in_whole_bytes(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
    """Cut scales to whole bytes."""
    groups = -(-num_weights // group_size)
    return num_weights / 2 + groups * (scale_bits // 8) + groups * zero_point_bits / 8


def _rounded(where: str, up: bool) -> Wrong:
    """Return a wrong answer that cuts, or fills up, the last byte of one of the terms."""

    def wrong(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
        weights, groups = 4 * num_weights, -(-num_weights // group_size)
        terms = {
            "weights": (weights, groups * (scale_bits + zero_point_bits)),
            "groups": (groups * (scale_bits + zero_point_bits), weights),
            "zero points": (groups * zero_point_bits, weights + groups * scale_bits),
            "scales": (groups * scale_bits, weights + groups * zero_point_bits),
        }
        bits, rest = terms[where]
        return (-(-bits // 8) if up else bits // 8) + rest / 8

    return wrong


def _each_filled(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
    """Give each group whole bytes for what it adds."""
    groups = -(-num_weights // group_size)
    return num_weights / 2 + groups * -(-(scale_bits + zero_point_bits) // 8)


def _by_a_share(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
    """Multiply by a group's share, which is no exact number."""
    return (4 * num_weights + math.ceil(num_weights * (1 / group_size)) * (scale_bits + zero_point_bits)) / 8


def _in_fp32(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
    """Count in fp32."""
    groups = torch.ceil(torch.tensor(num_weights / group_size))
    return float((torch.tensor(float(num_weights)) * 4 + groups * (scale_bits + zero_point_bits)) / 8)


def int4_cases(draw: random.Random) -> Iterator[Case]:
    """Yield weights: none, one, whole groups, one more than that, and more than fp32 can count."""
    for numbers in (
        (0, 128, 16, 4), (1, 128, 16, 4), (128, 128, 16, 4), (129, 128, 16, 4), (127, 128, 16, 4), (4096 * 11008, 128, 16, 4),
        (1000, 32, 16, 16), (4096, 64, 32, 8), (7, 1, 16, 4), (16_777_217, 64, 16, 4), (10, 3, 16, 0), (10, 3, 8, 3),
        (10, 3, 6, 3), (12, 4, 13, 5), (297, 99, 16, 4), (525, 75, 16, 4),
    ):  # fmt: skip
        yield dict(zip(("num_weights", "group_size", "scale_bits", "zero_point_bits"), numbers, strict=True))
    while True:
        group = draw.choice((1, 3, 32, 64, 100, 128, draw.randrange(1, 300)))
        count = draw.choice(
            (
                draw.randrange(40),
                group * draw.randrange(50),
                group * draw.randrange(10**6),
                draw.randrange(10**5),
                draw.randrange(2**25, 10**10) | 1,
            )
        )
        yield dict(num_weights=count, group_size=group, scale_bits=draw.choice((8, 16, 32, draw.randrange(1, 33))), zero_point_bits=draw.choice((0, 3, 4, 8, 16)))  # fmt: skip


INT4 = Family(
    int4_bytes,
    int4_cases,
    (Part(mistakes={
        "Each group has a scale and a zero point. Are both counted?": (_int4(extras="scale"), _int4(extras="zero")),
        "The weights alone take that. What do the groups add?": _int4(extras="none"),
        "Is that bits rather than bytes?": _int4(divide=1),
        "Has each weight a scale of its own, or each group?": _int4(groups="each"),
        "Has each group a scale of its own, or are all weights one group?": _int4(groups="one"),
        "The last group may be incomplete. Does it have a scale, too?": (_int4(groups="down"), _int4(groups="near")),
        "Can a part of a group have a part of a scale?": _int4(groups="exact"),
        "Groups that come out even need no other. Is one added?": _int4(groups="over"),
        "Nothing is padded. Is the last group filled up?": _padded,
        "The result may be a fraction. Is it cut, or rounded up?": (_whole, lambda **c: math.ceil(int4_bytes(**c)), lambda **c: round(int4_bytes(**c)),
            *(_rounded(where, up) for where in ("weights", "groups", "zero points", "scales") for up in (True, False))),
        "Sizes are given in bits, and a scale need not fill a byte. Are whole bytes counted?": (_in_whole_bytes, _each_filled),
        "A group's share of 1 is no exact number. Is the number of groups found by multiplying? Divide whole numbers.": _by_a_share,
        "Are all four numbers used, or is one of them fixed in the code?": (
            *(lambda n=n, **c: int4_bytes(**{**c, "group_size": n}) for n in (32, 64, 128)),
            *(lambda n=n, **c: int4_bytes(**{**c, "scale_bits": n}) for n in (8, 16, 32)),
            *(lambda n=n, **c: int4_bytes(**{**c, "zero_point_bits": n}) for n in (4, 8, 16))),
        "How many bytes has a weight of four bits?": lambda **c: int4_bytes(**c) + c["num_weights"] / 2,
        "No weights are no group. Is one counted?": lambda **c: int4_bytes(**c) if c["num_weights"] else (c["scale_bits"] + c["zero_point_bits"]) / 8,
        "fp32 cannot tell such large whole numbers apart. Is something counted in a tensor of fp32?": _in_fp32,
    }),),
    valid=lambda num_weights, group_size, scale_bits, zero_point_bits: group_size >= 1 and scale_bits >= 1,
)  # fmt: skip
