"""Exercise 10.3: loud channels found, and moved into the weights."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families.lab07.update import in_numbers, tensor_broken, tensor_shown
from helpers.checks.families.lab10.groups import in_each
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Smoothed = tuple[list[int], Tensor, Tensor]


def smooth(
    x: Tensor, weight: Tensor, ratio: float, *, loud: str = "median", of: str = "x", sized: str = "largest", factor: str = "both",
    root: bool = True, divided: str = "x", signed: bool = False,
) -> Smoothed:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    seen = x if signed else x.abs()
    sizes = {"largest": seen.amax(0), "mean": seen.mean(0), "square": x.square().mean(0).sqrt()}[sized]
    measured = sizes if of == "x" else weight.abs().amax(0)
    usual = {
        "median": measured.median(),
        "mean": measured.mean(),
        "least": measured.min(),
        "all": x.abs().median(),
    }[loud]
    found = (measured > ratio * usual).nonzero().flatten().tolist()
    weights = weight.abs().amax(0)
    scale = {
        "both": sizes / weights,
        "x": sizes,
        "floor": sizes / weights.clamp(min=1e-5),
        "inverse": weights / sizes,
        "matrix": sizes / weight.abs().max(),
        "product": sizes * weights,
        "loud": torch.where(measured > ratio * usual, sizes / weights, 1.0),
    }[factor]
    scale = scale.sqrt() if root else scale
    moved = {
        "x": (x / scale, weight * scale),
        "weights alone": (x, weight * scale),
        "activations alone": (x / scale, weight),
        "other": (x * scale, weight / scale),
        "both": (x / scale, weight / scale),
        "neither": (x, weight),
    }
    return (found, *moved[divided])


def smooth_cases(draw: random.Random) -> Iterator[Case]:
    """Yield activations with no loud channel, one or several, loud in one token or in all, on either side of 0."""
    at_the_border = torch.tensor([[1.0, -2.0, 8.0]])
    yield {"x": at_the_border, "weight": torch.tensor([[0.5, 3.0, -0.25]]), "ratio": 4.0}
    yield {"x": at_the_border, "weight": torch.tensor([[0.5, 3.0, -1e-7]]), "ratio": 3.0}
    while True:
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        tokens, rows, channels = draw.randrange(1, 7), draw.randrange(1, 5), draw.choice((3, 5, 7, 9, 15))
        x = torch.randn(tokens, channels, generator=generator) + 0.1
        weight = torch.randn(rows, channels, generator=generator) * draw.choice((0.05, 1.0))
        for channel in draw.sample(range(channels), draw.randrange(0, channels // 2 + 1)):
            token = draw.randrange(tokens)
            many = draw.random() < 0.5
            x[slice(None) if many else token, channel] *= draw.choice((20.0, -60.0, 300.0))
        weight[:, draw.randrange(channels)] *= draw.choice((1.0, 30.0))
        if draw.random() < 0.15:  # a factor may be very small, or very large
            little = draw.choice((1e-6, 1e6))
            x, weight = x * little, weight / little
        case: Case = {"x": x, "weight": weight, "ratio": draw.choice((0.5, 2.5, 4.0, 10.0, 25.0))}
        if is_clear(**case):
            yield case


def is_clear(x: Tensor, weight: Tensor, ratio: float) -> bool:
    """Return whether every channel has numbers other than 0, and none lies at the border of what is loud."""
    sizes = x.abs().amax(0)
    border = (sizes / (ratio * sizes.median()) - 1).abs().min()
    return float(border) > 1e-3 and float(min(sizes.min(), weight.abs().amax(0).min())) > 1e-12


def smooth_kind(got: Any, case: Case) -> Smoothed:
    """Return the three parts. Raises CheckFailed when the result is something else."""
    given = in_numbers(case)
    if not isinstance(got, tuple | list) or len(got) != 3 or not all(isinstance(t, Tensor) for t in got[1:]):
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("expected three things: outliers, x, weight", given, got=describe(got), hint=hint)
    found = got[0].tolist() if isinstance(got[0], Tensor) else plain(got[0])
    found = sorted(found) if isinstance(found, set | frozenset) else found
    if is_whole(found):
        hint = "One channel is a list of one. Is it squeezed out of its list?"
        raise CheckFailed(
            "outliers: expected a list of channels, whole numbers", given, got=describe(found), hint=hint
        )
    if not isinstance(found, list | tuple) or not all(is_whole(one) for one in found):
        raise CheckFailed("outliers: expected a list of channels, whole numbers", given, got=describe(got[0]))
    return sorted(found), got[1], got[2]


_FOUND: Mapping[str, tuple[dict[str, Any], ...]] = {
    "One loud channel makes the mean large, and hides itself and others. Is it compared with the median?": ({"loud": "mean"},),
    "Is the usual channel the median one, or the quietest?": ({"loud": "least"},),
    "Is that the median over channels of their largest numbers, or over all numbers?": ({"loud": "all"},),
    "Which is loud: the activations, or the weights?": ({"of": "weight"},),
    "Numbers below 0 are large, too. Is their size taken?": ({"signed": True},),
    "A channel may be loud in a single token. Is its largest number taken, or a mean?": ({"sized": "mean"}, {"sized": "square"}),
}  # fmt: skip
_MOVED: Mapping[str, tuple[dict[str, Any], ...]] = {
    "The weights have taken the factor, and the activations are as before: that is another product. Are they divided?": ({"divided": "weights alone"},),
    "The activations are divided, and no weight makes it good. Are the weights multiplied?": ({"divided": "activations alone"},),
    "Activations become smaller, weights larger. Is it the other way round here?": ({"divided": "other"}, {"factor": "inverse"}),
    "What is divided on one side is multiplied on the other. Are both divided?": ({"divided": "both"},),
    "Nothing is moved. Is the factor used?": ({"divided": "neither"},),
    "Without the root all of the difference goes into the weights. Is it taken?": ({"root": False},),
    "Is the weights' size in the factor? Where weights are large already, less is moved.": ({"factor": "x"}, {"factor": "x", "root": False}),
    "Each channel has its own largest weight. Is that of the whole matrix taken?": ({"factor": "matrix"},),
    "Large activations make the factor large, large weights make it small. Is one multiplied where it should divide?": ({"factor": "product"},),
    "Weights may be small. Is the largest of a channel raised to a least value?": ({"factor": "floor"},),
    "Every channel gets a factor. Is it only the loud ones here?": ({"factor": "loud"},),
    "Numbers below 0 are large, too. Is their size taken?": ({"signed": True},),
    "A channel may be loud in a single token. Is its largest number taken, or a mean?": ({"sized": "mean"}, {"sized": "square"}),
}  # fmt: skip


def _options(
    mistakes: Mapping[str, tuple[dict[str, Any], ...]], part: int | None
) -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to one part, or to all parts where there is none."""
    chosen = slice(None) if part is None else part
    return {
        words: tuple(lambda options=options, **case: smooth(**case, **options)[chosen] for options in several)
        for words, several in mistakes.items()
    }


def smooth_facts(got: Any, right: Any, case: Case) -> str:
    """Return what a shape or a type tells."""
    if not isinstance(right, Tensor):
        return "Which channels' largest number is more than `ratio` times that of the median channel?"
    if got.shape != right.shape:
        return "There is a factor for each channel, `[channels]`. Is a maximum taken over the wrong axis?"
    return "" if bool(got.isfinite().all()) else "Is there a root of something below 0, or a division by 0?"


SMOOTH = Family(
    smooth,
    smooth_cases,
    (
        Part("outliers", broken="not these channels", mistakes=_options(_FOUND, 0), facts=smooth_facts),
        Part("x", broken=tensor_broken, same=in_each, shown=tensor_shown, mistakes=_options(_MOVED, 1), facts=smooth_facts),
        Part("weight", broken=tensor_broken, same=in_each, shown=tensor_shown, mistakes=_options(_MOVED, 2), facts=smooth_facts),
    ),
    kind=smooth_kind,
    tensors=True,
    joint=_options(_MOVED, None),
    shown=in_numbers,
)  # fmt: skip
