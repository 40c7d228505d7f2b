"""Exercise 7.1: bytes that move."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from helpers.checks.families import flash_answers as answers
from helpers.checks.families.shapes import overflow_facts
from helpers.checks.machinery.family import Case, Family, Part, Wrong


def _traffic(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: answers.traffic(**case, **options)


def _one_block(**case: Any) -> Any:
    """Read keys and values once."""
    return answers.traffic(**{**case, "query_block": max(1, case["q_len"])})


def _for_each_query(**case: Any) -> Any:
    """Read keys and values for each query."""
    return answers.traffic(**{**case, "query_block": 1})


def _with_scores(count: int) -> Wrong:
    """Return a wrong answer in which scores move."""
    return lambda **case: (
        answers.traffic(**case) + count * case["q_len"] * case["kv_len"] * case["element_bytes"]
    )


def _scaled(power: int) -> Wrong:
    """Return a wrong answer in elements, or with bytes twice."""
    return lambda **case: answers.traffic(**case) * case["element_bytes"] ** power


def traffic_cases(draw: random.Random) -> Iterator[Case]:
    """Yield sizes of any kind: blocks that are larger than all queries, that come out even or do not, small heads."""
    names = ("q_len", "kv_len", "head_dim", "query_block", "element_bytes")
    for numbers in (
        (1, 1, 1, 1, 1),
        (100, 300, 64, 32, 2),
        (4096, 4096, 128, 256, 2),
        (1, 777, 64, 128, 4),
        (513, 600, 80, 128, 2),
        (32, 8, 16, 16, 2),
    ):
        yield dict(zip(names, numbers, strict=True))
    while True:
        block = draw.choice((1, 16, draw.randrange(1, 300)))
        q_len = draw.choice((1, block, block * draw.randrange(1, 9), draw.randrange(1, 5000)))
        yield dict(zip(names, (q_len, draw.randrange(1, 9000), draw.choice((1, 8, 40, 64, 80, 128, 256)), block, draw.choice((1, 2, 4, 8))), strict=True))  # fmt: skip


TRAFFIC = Family(
    answers.traffic,
    traffic_cases,
    (Part(facts=overflow_facts, mistakes={
        "Can a core keep all keys and values? How often does it read them, if each block of queries needs them anew?": (
            _one_block, lambda **case: _one_block(**case) - 2 * case["q_len"] * case["head_dim"] * case["element_bytes"]),
        "The last block of queries may be shorter. Does it read no keys?": (
            _traffic(rounded=math.floor), _traffic(rounded=float), _traffic(rounded=round), _traffic(rounded=lambda n: max(1, math.floor(n)))),
        "Results have the elements' size, too. Are they fp32 here?": (
            lambda **case: answers.traffic(**case) + case["q_len"] * case["head_dim"] * (4 - case["element_bytes"])),
        "Four kinds of vectors move. Are sums or maxima of the softmax added?": tuple(
            lambda count=count, **case: answers.traffic(**case) + count * case["q_len"] for count in (4, 8, 16)),
        "Nothing is filled up. Are keys rounded up to a block?": (
            *(lambda block=block, **case: answers.traffic(**{**case, "kv_len": -(-case["kv_len"] // block) * block}) for block in (16, 32, 64, 128)),
            lambda **case: answers.traffic(**{**case, "kv_len": -(-case["kv_len"] // case["query_block"]) * case["query_block"]})),
        "Blocks are blocks of queries. Are keys cut into them, too?": lambda **case: answers.traffic(**{**case, "q_len": case["kv_len"], "kv_len": case["q_len"]}),
        "Blocks that come out even need no other. Is one added?": _traffic(rounded=lambda n: math.floor(n) + 1),
        "Queries are read, and a result is written. Are both counted?": (_traffic(per_query=1), _traffic(per_query=0)),
        "Keys are read, and values too. Are both counted?": _traffic(per_key=1),
        "Are these bytes, or elements?": (_scaled(-1), _scaled(1)),
        "Do scores ever leave the core?": tuple(_with_scores(count) for count in (1, 2, 3, 4)),
        "A block of queries shares one reading of the keys. Does each query read for itself?": _for_each_query,
        "Small heads move as few bytes as they have. Are they filled up?": tuple(
            lambda most=most, **case: answers.traffic(**{**case, "head_dim": max(most, case["head_dim"])}) for most in (16, 32, 64, 128)),
        "The last block may be shorter. Are its queries counted as a full block's?": (
            lambda **case: answers.traffic(**{**case, "q_len": -(-case["q_len"] // case["query_block"]) * case["query_block"]})),
    }),),
    valid=lambda **case: min(case.values()) >= 1,
)  # fmt: skip
