"""Exercise 9.2: a residual added and the sum normalised."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families.lab07.update import in_numbers, tensor_broken, tensor_shown, tensors_kind
from helpers.checks.machinery.family import Case, Family, Part, Wrong

_RELATIVE = {torch.float32: 4e-5, torch.float16: 4e-3, torch.bfloat16: 2.5e-2}
"""Several roundings of each type: a product by the weight may be rounded once or twice."""


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, *, of: str = "sum", carried: str = "sum", eps_at: str = "inside",
    wide: bool = True, mean: str = "squares", over: int | None = -1, weighted: str = "times", root: bool = True, divided: bool = True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    total = x + residual
    t = {"sum": total, "x": x, "residual": residual}[of]
    t = t.float() if wide else t
    centred = t - t.mean(-1, keepdim=True) if mean == "centred" else t
    square = centred * centred if mean != "absolute" else centred.abs()
    dims = -1 if over == -1 else 0 if over == 0 else (0, 1)
    size = square.sum(dims, keepdim=True) if mean == "sum" else square.mean(dims, keepdim=True)
    own = {"own 5": 1e-5, "own 6": 1e-6, "own 3": 1e-3}.get(eps_at, eps)
    scale = (
        size if eps_at in ("none", "outside") else size.clamp(min=eps) if eps_at == "floor" else size + own
    )
    scale = scale.sqrt() if root else scale
    scale = scale + eps if eps_at == "outside" else scale
    normed = centred / scale if divided else centred * scale
    factor = weight.to(normed.dtype)
    normed = {"times": normed * factor, "none": normed, "plus": normed * (1 + factor)}[weighted].to(x.dtype)
    return normed, {"sum": total, "x": x, "residual": residual, "normed": normed}[carried]


def norm_cases(draw: random.Random) -> Iterator[Case]:
    """Yield tensors of all three types: small ones, at which eps counts, ones whose squares overflow, rows of zeros."""
    for number in range(10**9):
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        dtype = draw.choice((torch.float32, torch.float32, torch.float16, torch.bfloat16))
        tokens, hidden = draw.randrange(1, 4), draw.randrange(1, 7)
        size = draw.choice((1.0, 1.0, 3e-4, 3e-3, 0.1, 30.0, 1500.0))
        if number < 4:
            dtype, size, tokens, hidden = (
                (torch.float16, torch.float32)[number % 2],
                (1500.0, 3e-3)[number // 2],
                2,
                4,
            )
        x, residual = ((torch.randn(tokens, hidden, generator=generator) + 0.3) * size for _ in "xr")
        if draw.random() < 0.1:
            residual = -x
        elif draw.random() < 0.15:
            residual = residual * 100
        weight = torch.rand(hidden, generator=generator) * 2 + 0.25
        weight[draw.randrange(hidden)] *= draw.choice((1.0, -1.0))
        tensors = [t.to(dtype) for t in (x, residual, weight)]
        if not all(bool(t.isfinite().all()) for t in (*tensors, tensors[0] + tensors[1])):
            continue
        yield dict(
            zip(("x", "residual", "weight", "eps"), (*tensors, draw.choice((1e-5, 1e-6, 1e-3))), strict=True)
        )


def near(one: Any, other: Any) -> bool:
    """Return whether two tensors are equal to a few roundings of their type."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    bound = _RELATIVE[other.dtype]
    return torch.allclose(one.double(), other.double(), rtol=bound, atol=bound * 1e-3, equal_nan=True)


def norm_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what infinities and numbers that are none say about an answer."""
    if got.dtype != right.dtype:
        return "The result has the type of x. Is it brought back to that?"
    if not bool(got.isfinite().all()):
        return "A sum of zeros has the mean square 0. Is something divided by it?"
    return ""


NORMED: Mapping[str, tuple[dict[str, Any], ...]] = {
    "Is the norm that of the sum, or of x alone?": ({"of": "x"},),
    "Is the norm that of the sum, or of the residual alone?": ({"of": "residual"},),
    "Is your epsilon inside the square root?": ({"eps_at": "outside"},),
    "`eps` is an argument. Is a number of your own added?": (
        {"eps_at": "own 5"},
        {"eps_at": "own 6"},
        {"eps_at": "own 3"},
    ),
    "Epsilon is added to the mean. Is it the least that the mean may be?": ({"eps_at": "floor"},),
    "A row of zeros has the mean square 0. Is eps added?": ({"eps_at": "none"},),
    "Squares are large: in 16 bits they overflow or vanish. Is the mean taken in fp32?": ({"wide": False},),
    "RMSNorm does not subtract the mean. Is that a layer norm?": ({"mean": "centred"},),
    "Is it the mean of the squares, or their sum?": ({"mean": "sum"},),
    "Is it the mean of squares, or of absolute values?": (
        {"mean": "absolute"},
        {"mean": "absolute", "root": False},
    ),
    "Each token has a mean of its own. Is it taken over the last dimension alone?": (
        {"over": None},
        {"over": 0},
    ),
    "Is the weight multiplied?": ({"weighted": "none"},),
    "Is 1 added to the weight? Some models do that (Gemma), this one does not.": ({"weighted": "plus"},),
    "Is the root taken of the mean square?": ({"root": False},),
    "Is it divided by the root, or multiplied with it?": ({"divided": False},),
}
TOTALS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "The residual goes on as the sum. Is x, or the residual, lost?": (
        {"carried": "residual"},
        {"carried": "x"},
    ),
    "The residual goes on as the sum, before the norm. Is it the normed one?": ({"carried": "normed"},),
}


def _named(mistakes: Mapping[str, tuple[dict[str, Any], ...]], part: int) -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to one part."""
    return {
        words: tuple(lambda options=options, **case: add_norm(**case, **options)[part] for options in several)
        for words, several in mistakes.items()
    }


NORM = Family(
    add_norm,
    norm_cases,
    tuple(
        Part(
            name,
            broken=tensor_broken,
            mistakes=_named(known, i),
            same=near,
            shown=tensor_shown,
            facts=norm_facts,
        )
        for i, (name, known) in enumerate((("normed", NORMED), ("total", TOTALS)))
    ),
    kind=tensors_kind("normed, total"),
    tensors=True,
    spent=("residual",),
    shown=in_numbers,
)
