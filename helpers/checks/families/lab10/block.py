"""Exercise 10.4: an MLP whose weights and activations are int8, by three operators."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.checks.families.lab07.update import in_numbers, tensor_broken, tensor_shown
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong

_CLOSE = 0.06
"""Share of a token's largest number by which results may differ: a code at a border moves by one."""


def mlp(
    x: Tensor, gate_up: Tensor, gate_up_scale: Tensor, down: Tensor, down_scale: Tensor, *, per: str = "token", left: bool = True,
    narrow: bool = False, tokens: str = "both", weights: str = "both", wide: bool = False, floats: tuple[str, ...] = (),
) -> Tensor:  # fmt: skip
    """Return the right answer, computed without the operators; with one of the options changed, a wrong one."""
    codes, scale = _codes(x.float(), per, "x" in floats)
    hidden = codes @ gate_up.double().t()
    hidden = hidden * (scale if tokens in ("both", "first") else 1)
    hidden = hidden * (gate_up_scale if weights in ("both", "first") else 1)
    one, other = hidden.chunk(2, dim=-1)
    hidden = F.silu(one) * other if left else F.silu(other) * one
    codes, scale = _codes(hidden, "token" if per == "first" else per, "hidden" in floats)
    result = codes @ down.double().t() * (down_scale if weights in ("both", "last") else 1)
    result = result.round().clamp(-128, 127) if narrow else result
    result = result * (scale if tokens in ("both", "last") else 1)
    return result.float() if wide else result.to(x.dtype)


def _codes(x: Tensor, per: str, floats: bool = False) -> tuple[Tensor, Tensor]:
    """Return whole numbers (or `floats`) and scales, both in fp64: one scale for each token, or one for all."""
    x = x.double()
    largest = x.abs().amax(-1, keepdim=True) if per == "token" else x.abs().max()
    scale = (largest / 127).clamp(min=1e-30)
    return x / scale if floats else (x / scale).round(), scale


def block_cases(draw: random.Random) -> Iterator[Case]:
    """Yield MLPs and tokens: one or several, alike or of very different size, some with a loud channel."""
    while True:
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        tokens, hidden, inner = draw.randrange(1, 5), draw.choice((6, 8, 12)), draw.choice((10, 16, 20))
        x = torch.randn(tokens, hidden, generator=generator) + 0.3
        if tokens > 1 and draw.random() < 0.8:
            x[draw.randrange(tokens)] *= draw.choice((100.0, 400.0, 0.0))
        x *= draw.choice((1.0, 1.0, 1.0, 1e-3))
        case: Case = {"x": x.to(torch.bfloat16)}
        for name, rows, columns in (("gate_up", 2 * inner, hidden), ("down", hidden, inner)):
            case[name] = torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)
            case[f"{name}_scale"] = (torch.rand(rows, generator=generator) * 2 + 0.2) / (127 * columns**0.5)
        yield _loud(case, draw)


def _loud(case: Case, draw: random.Random) -> Case:
    """Return the case, in half of the cases with a channel beside which all others have the code 0.

    It is a channel of x, or of the hidden tokens. The codes of the next matrix that read it are 1 and -1, those that
    read the others are large: so numbers that stay floats are seen.
    """
    kind = draw.choice(("x", "hidden", "", ""))
    if kind == "x":
        x, channel = case["x"].float(), draw.randrange(case["x"].shape[1])
        x[:, channel] = x.abs().amax(-1) * 700
        return {**case, "x": x.to(torch.bfloat16), "gate_up": _ones(case["gate_up"], channel)}
    return _loud_hidden(case, draw.randrange(case["down"].shape[1])) if kind == "hidden" else case


def _ones(codes: Tensor, channel: int) -> Tensor:
    """Return the codes with 1 and -1 in the column of one channel."""
    codes = codes.clone()
    codes[:, channel] = torch.where(codes[:, channel] < 0, -1, 1)
    return codes


def _loud_hidden(case: Case, channel: int) -> Case:
    """Return the case with a hidden channel so loud that each other one is a third of a code's step, or less."""
    gate_up, scale, inner = case["gate_up"].clone(), case["gate_up_scale"].clone(), case["down"].shape[1]
    x = case["x"].abs()
    for row in (channel, inner + channel):
        gate_up[row] = gate_up[row].abs().clamp(min=60)
    gate, up = (x.float() @ (gate_up.float() * scale[:, None]).t()).chunk(2, dim=-1)
    sizes = (F.silu(gate) * up).abs()
    own = sizes[:, channel].clone()
    sizes[:, channel] = 0
    scale[inner + channel] *= (
        (3 * 127 * sizes.amax(-1) / own).nan_to_num(0).max()
    )  # a token of zeros has none
    return {**case, "x": x, "gate_up": gate_up, "gate_up_scale": scale, "down": _ones(case["down"], channel)}


def block_same(one: Any, other: Any) -> bool:
    """Return whether two results are equal to a small share of each token's largest number."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    largest = other.double().abs().amax(-1, keepdim=True)
    return bool(((one.double() - other.double()).abs() <= _CLOSE * largest + 1e-30).all())


def block_kind(got: Any, case: Case) -> tuple[Tensor]:
    """Return the tensor. Raises CheckFailed when there is none."""
    if not isinstance(got, Tensor):
        hint = "Is a return missing?" if got is None else "The operators return pairs: codes and scales."
        raise CheckFailed("expected one tensor", in_numbers(case), got=describe(got), hint=hint)
    return (got,)


def block_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what a type or a shape tells."""
    if got.shape != right.shape:
        return "The result has the shape of x. Do `x2` and `down` have inputs in rows?"
    if got.dtype == torch.int8:
        return "`npu_quant_matmul` gives int8 unless told otherwise. Is `output_dtype` given?"
    if got.dtype != right.dtype:
        return "The result has the type of x. Is `output_dtype` given, with the tokens' scales?"
    if not bool(got.isfinite().all()) and bool((case["x"] == 0).all(-1).any()):
        return "A token may be all zeros. Is something divided by its largest number?"
    return ""


MISTAKES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "Nothing is mended yet. Look at the scale of the tokens, at the halves, and at the type of the last product.": (
        {"per": "first", "left": False, "narrow": True},),
    "One scale for all tokens: a large token makes the small ones 0. Has each token its own?": (
        {"per": "first"}, {"per": "tensor"}),
    "The gate is the first half. Which half goes through SiLU when `activate_left` is not given?": ({"left": False},),
    "The last product is int8 unless told otherwise: its sums end at 127. Is `output_dtype` given?": ({"narrow": True},),
    "The tokens have one scale for all, and the halves are the wrong way round. Both are still to be mended.": ({"per": "first", "left": False},),
    "The tokens have one scale for all, and the last product ends at 127. Both are still to be mended.": ({"per": "first", "narrow": True},),
    "The halves are the wrong way round, and the last product ends at 127. Both are still to be mended.": ({"left": False, "narrow": True},),
    "Activations are int8, too. Do the hidden tokens stay floats between the two products?": ({"floats": ("hidden",)},),
    "Activations are int8, too. Does x stay as it is before the first product?": ({"floats": ("x",)},),
    "Nothing is int8 but the weights. Are x and the hidden tokens made codes?": ({"floats": ("x", "hidden")},),
    "Are the scales of the hidden tokens multiplied at the end (`pertoken_scale`)?": ({"tokens": "first"},),
    "Are the scales of x multiplied before SiLU (`activation_scale`)?": ({"tokens": "last"},),
    "Are the scales of `gate_up` multiplied before SiLU (`weight_scale`)?": ({"weights": "last"},),
    "Are the scales of `down` multiplied?": ({"weights": "first"},),
}  # fmt: skip


def _named() -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers."""
    return {
        words: tuple(lambda options=options, **case: mlp(**case, **options) for options in several)
        for words, several in MISTAKES.items()
    }


BLOCK = Family(
    mlp,
    block_cases,
    (Part(broken=tensor_broken, same=block_same, shown=tensor_shown, mistakes=_named(), facts=block_facts),),
    kind=block_kind,
    tensors=True,
    shown=in_numbers,
)
