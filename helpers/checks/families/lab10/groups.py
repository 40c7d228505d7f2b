"""Exercise 10.1: codes of 4 bits, and a grid for each group."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families.lab07.update import in_numbers, near, tensor_broken, tensor_shown, tensors_kind
from helpers.checks.machinery.family import Case, Family, Part, Wrong

Parts = tuple[Tensor, Tensor, Tensor]
_STEEPEST = 1500.0
"""Steps between 0 and a group, up to which fp32 finds the codes without doubt."""


def by_groups(
    weight: Tensor, group: int, *, steps: float = 15, lowest: int = -8, over: str = "group", rounding: str = "nearest", sign: int = 1,
    reach: str = "own", offsets: str = "both", constant: bool = True, least: float = 0.0,
) -> Parts:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    grouped = weight.reshape(len(weight), -1, group)
    dims = {"group": (2,), "row": (1, 2), "matrix": (0, 1, 2)}[over]
    low, high = grouped.amin(dims, keepdim=True), grouped.amax(dims, keepdim=True)
    if reach == "zero":
        low, high = low.clamp(max=0), high.clamp(min=0)
    elif reach == "symmetric":
        high = torch.maximum(low.abs(), high.abs())
        low = -high
    scale = (high - low) / steps
    scale = torch.where(scale <= least, 1.0, scale) if constant else scale
    offset = low / scale - lowest
    offset = offset.round() if offsets == "rounded" else offset
    offset = torch.zeros_like(offset) if reach == "symmetric" and steps != 15 else offset
    position = grouped / scale - (0 if offsets == "scale alone" else offset)
    rounded = {"nearest": position.round(), "down": position.floor(), "cut": position.trunc()}[rounding]
    codes = rounded.clamp(lowest, lowest + 15).to(torch.int8).reshape(weight.shape)
    shape = grouped.shape[:2]
    offset = torch.zeros_like(offset) if offsets in ("none", "scale alone") else sign * offset
    offset = low if offsets == "minimum" else offset
    return codes, scale.expand(*shape, 1)[..., 0].contiguous(), offset.expand(*shape, 1)[..., 0].contiguous()


def group_cases(draw: random.Random) -> Iterator[Case]:
    """Yield matrices: groups far from 0, on one side of it, of equal weights, with one large weight, and one group a row."""
    numbers = torch.tensor([[0.0, 1.0, 3.0, 15.0], [-7.0, 2.0, 5.0, 8.0]])
    yield {"weight": numbers * 1e-10, "group": 4}
    yield {"weight": numbers * 1e-20, "group": 4}
    yield {"weight": torch.tensor([[1.0, 1.01, 1.004, 1.006]]), "group": 4}
    yield {"weight": torch.arange(24.0).view(3, 8) * 0.37 - 2, "group": 1}
    number = 0
    while True:
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        group = draw.choice((2, 3, 4, 8, 8, 32))
        rows, groups = (
            (draw.randrange(1, 5), draw.randrange(1, 4)) if group < 32 else (1, draw.randrange(1, 3))
        )
        weight = torch.randn(rows, groups * group, generator=generator) * draw.choice((1.0, 0.02, 30.0))
        parts = weight.view(rows, groups, group)
        for _ in range(draw.randrange(3)):
            one = parts[draw.randrange(rows), draw.randrange(groups)]
            one += draw.choice((2.0, -2.0)) * weight.abs().max()
        if draw.random() < 0.15 or number == 1:
            parts[-1, 0] = draw.choice((0.0, 0.5, -1.25))
        if draw.random() < 0.2:
            weight[0, -1] *= 20
        if draw.random() < 0.1 and float(parts[0, -1].std()) > 0:  # a narrow group, far from 0
            parts[0, -1] = parts[0, -1] / parts[0, -1].abs().max() * 0.01 + draw.choice((1.0, -1.0))
        if is_clear(weight, group):
            number += 1
            yield {"weight": weight.clone(), "group": group}


def is_clear(weight: Tensor, group: int) -> bool:
    """Return whether no weight lies between two codes, and no group so far from 0 that fp32 would be in doubt."""
    wide = weight.double().reshape(len(weight), -1, group)
    low, high = wide.amin(2, keepdim=True), wide.amax(2, keepdim=True)
    scale = torch.where(high == low, 1.0, (high - low) / 15)
    place = (wide - low) / scale
    doubtful = ((place - place.floor()) - 0.5).abs().min() < 3e-3
    return not bool(doubtful) and float((low.abs() / scale).max()) < _STEEPEST


def in_each(one: Any, other: Any) -> bool:
    """Return whether two tensors hold the same numbers, each to fp32's precision, however small it is."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one.double(), other.double(), rtol=2e-5, atol=1e-37, equal_nan=True)


CUT = "Is a code the nearest one, or is the rest cut off?"
GROUPS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "`(code + offset) * scale` adds the offset, a zero point is subtracted. Has your offset the other sign?": ({"sign": -1},),
    "Each group has a grid of its own. Is that one scale for the whole matrix?": ({"over": "matrix"},),
    "Each group has a grid of its own. Is that one scale for a whole row?": ({"over": "row"},),
    "Do codes go from -8 to 7 here, or from 0 to 15?": ({"lowest": 0},),
    "Between 16 values there are 15 steps. Is the range divided by 16?": ({"steps": 16},),
    "4 bits have 16 values, so 15 steps. Is one of them left out?": ({"steps": 14, "lowest": -7}, {"steps": 14}),
    "The grid reaches from the smallest weight to the largest, on both sides. Is it made symmetric around 0?": (
        {"reach": "symmetric"}, {"reach": "symmetric", "steps": 14}),
    "The grid need not hold 0. Is it stretched to it?": ({"reach": "zero"},),
    CUT: ({"rounding": "down"}, {"rounding": "cut"}),
    "A group of equal weights has a range of 0. Is something divided by it?": ({"constant": False},),
    "A group of equal weights has the scale 1. Is a group of small weights taken for such a one?": ({"least": 1e-9}, {"least": 1e-15}),
    "Offset and scale are not rounded. Is one of them?": ({"offsets": "rounded"},),
    "Is the smallest weight used? The grid begins there.": ({"offsets": "scale alone"},),
    "Is the offset given back? Without it, nothing tells where the grid begins.": ({"offsets": "none"},),
    "The offset is added to a code, before the scale. Is it the smallest weight itself?": ({"offsets": "minimum"},),
}  # fmt: skip


def _joint() -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to all parts together."""
    return {
        words: tuple(lambda options=options, **case: by_groups(**case, **options) for options in several)
        for words, several in GROUPS.items()
    }


def group_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what a shape, a type or a number that is none tells."""
    if got.shape != right.shape:
        down = (len(case["weight"]) // case["group"], case["weight"].shape[1])
        if tuple(got.shape) in (down, down[::-1]):
            return "A group is neighbours in a row: inputs of one output. Are these groups of a column?"
        return "A row of weights has `columns / group` groups. Is there a number for each?"
    if got.dtype != right.dtype:
        return f"Which type is asked for? {right.dtype}."
    if got.dtype.is_floating_point and not bool(got.isfinite().all()):
        return "A group of equal weights has a range of 0. Is something divided by it?"
    if got.dtype == torch.int8 and not -8 <= int(got.min()) <= int(got.max()) <= 7:
        return "Codes go from -8 to 7, and one lies outside. How many steps are there from the smallest weight to the largest?"
    parts = case["weight"].reshape(len(right), -1, case["group"])
    equal = (parts.amax(-1) == parts.amin(-1)).repeat_interleave(case["group"], 1)
    if got.dtype == torch.int8 and bool((got != right)[equal].any()):
        return "A group of equal weights has the scale 1 and the codes -8. Which ones has it here?"
    if got.dtype == torch.int8 and set((right - got).flatten().tolist()) <= {0, 1}:
        return CUT
    return ""


BY_GROUPS = Family(
    by_groups,
    group_cases,
    tuple(
        Part(name, broken=tensor_broken, same=same, shown=tensor_shown, facts=group_facts)
        for name, same in (("codes", near), ("scale", in_each), ("offset", near))
    ),
    kind=tensors_kind("codes, scale, offset"),
    tensors=True,
    joint=_joint(),
    shown=in_numbers,
)
