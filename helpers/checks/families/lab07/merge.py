"""Exercise 7.4: two parts of the keys."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families import flash_answers as answers
from helpers.checks.families.flash_answers import NONE
from helpers.checks.families.lab07.update import (
    in_numbers,
    nan_facts,
    roughly,
    tensor_broken,
    tensor_shown,
    tensors_kind,
)
from helpers.checks.machinery.family import Case, Family, Part, Wrong


def merge_cases(draw: random.Random) -> Iterator[Case]:
    """Yield parts of like and of very different weight, in any type, and queries that see no key of one part or of both."""
    for lse_a, lse_b in (([0.3, 1.9, -1.2], [1.0, 1.1, 2.4]), ([-400.0, 150.0, 3.0], [-399.0, 149.0, 3.5]),
                         ([1.0, 2.0, NONE], [1.0, 2.0, 1.0]), ([0.5, NONE, 2.0], [NONE, 0.7, 1.0]), ([NONE, 1.0, NONE], [NONE, NONE, 2.0])):  # fmt: skip
        yield _parts(draw, lse_a, lse_b, 2, torch.float32, torch.float32)
    while True:
        queries = draw.randrange(1, 5)
        center, spread = draw.choice((0.0, 0.0, 200.0, -200.0)), draw.choice((0.5, 1.0, 4.0, 30.0))
        out, lse = draw.choice(
            ((torch.float32, torch.float32),) * 3
            + (
                (torch.float16, torch.float16),
                (torch.bfloat16, torch.float32),
                (torch.float64, torch.float64),
            )
        )
        center = center if lse == torch.float32 else 0.0
        drawn = [
            [NONE if draw.random() < 0.15 else draw.gauss(center, spread) for _ in range(queries)]
            for _ in "ab"
        ]
        yield _parts(draw, drawn[0], drawn[1], draw.randrange(1, 4), out, lse)


def _parts(
    draw: random.Random, lse_a: list[float], lse_b: list[float], dim: int, out: torch.dtype, lse: torch.dtype
) -> Case:
    """Return two parts; a query that sees no key of a part has 0 there."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    lses = [torch.tensor(values) for values in (lse_a, lse_b)]
    outs = [
        torch.randn(len(one), dim, generator=generator).masked_fill((one == NONE)[:, None], 0.0)
        for one in lses
    ]
    return {
        "out_a": outs[0].to(out),
        "lse_a": lses[0].to(lse),
        "out_b": outs[1].to(out),
        "lse_b": lses[1].to(lse),
    }


_OUTS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "Do both parts count the same, however much weight their keys have?": ({"weights": "mean"}, {"weights": "sum"}),
    "The lse is a logarithm. What is a part's weight?": ({"weights": "lse"},),
    "A part's result is divided already. Do the two shares come to 1?": ({"weights": "unnormalised"},),
    "Does the part with the larger lse count alone?": ({"weights": "larger"},),
    "Has each part its own share, and not the other's?": ({"swapped": True},),
    "A query may see no key in either part. What is minus infinity minus minus infinity?": ({"guarded": False},),
    "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?": (
        {"shifted": False}, {"shifted": False, "guarded": False}),
}  # fmt: skip
_LSES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "The parts' exp(lse) add up, not their lse.": ({"total": "added"}, {"total": "mean"}),
    "Is that the larger of the two, without the other's share?": ({"total": "max"},),
    "Is the logarithm missing?": ({"total": "exp"},),
    "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?": (
        {"shifted": False},
    ),
}


def _merges(part: int, mistakes: Mapping[str, tuple[dict[str, Any], ...]]) -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to one part."""
    return {
        words: tuple(
            lambda options=options, **case: answers.merge(**case, **options)[part] for options in several
        )
        for words, several in mistakes.items()
    }


def _without_shift(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> Tensor:
    """Weigh by exp(lse) itself, and give 0 where both weights are 0."""
    a, b = (lse.float().exp()[:, None] for lse in (lse_a, lse_b))
    return torch.where(a + b == 0, 0.0, (a * out_a.float() + b * out_b.float()) / (a + b))


def _one_shift(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> tuple[Tensor, Tensor]:
    """Take the largest lse of all queries off each."""
    out_a, lse_a, out_b, lse_b = (part.float() for part in (out_a, lse_a, out_b, lse_b))
    most = torch.maximum(lse_a, lse_b).amax()
    most = torch.where(most == NONE, 0.0, most)
    a, b = (lse_a - most).exp()[:, None], (lse_b - most).exp()[:, None]
    out = torch.nan_to_num(a / (a + b) * out_a + b / (a + b) * out_b)
    return out, most + (a + b).log()[:, 0]


_EACH = "The largest of all queries' lse is taken off each. Has every query an lse of its own to take off?"
_LARGE = "exp of a large number is infinite, of a very negative one 0. Which number can be taken off both lse first?"
MERGE = Family(
    answers.merge,
    merge_cases,
    (
        Part("out", broken=tensor_broken, mistakes={**_merges(0, _OUTS), _LARGE: (*_merges(0, _OUTS)[_LARGE], _without_shift), _EACH: lambda **c: _one_shift(**c)[0]}, same=roughly, shown=tensor_shown, facts=nan_facts),
        Part("lse", broken=tensor_broken, mistakes={**_merges(1, _LSES), _EACH: lambda **c: _one_shift(**c)[1]}, same=roughly, shown=tensor_shown, facts=nan_facts),
    ),
    kind=tensors_kind("out, lse"),
    tensors=True,
    shown=in_numbers,
)  # fmt: skip
