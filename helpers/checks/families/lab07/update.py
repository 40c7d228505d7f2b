"""Exercise 7.2: blocks of keys, one after the other."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families import flash_answers as answers
from helpers.checks.families.flash_answers import NONE
from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import close


def near(one: Any, other: Any) -> bool:
    """Return whether two tensors hold the same numbers."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if bool(
        ((other == 0) & (one.abs() > 1e-30)).any()
    ):  # no key seen yet: nothing may be added, however small
        return False
    return close(one, other) or torch.allclose(
        one.double(), other.double(), rtol=2e-5, atol=4e-6, equal_nan=True
    )


def roughly(one: Any, other: Any) -> bool:
    """Return whether two tensors hold the same numbers, as far as fp32 tells lse of some hundred apart."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one.double(), other.double(), rtol=2e-4, atol=2e-5, equal_nan=True)


def numbers(tensor: Tensor) -> Words:
    """Return the numbers of a small tensor, in one line."""
    digits = [f"{x:.6g}" for x in tensor.flatten().tolist()]
    return Words(f"{', '.join(digits[:8])}{', ...' if len(digits) > 8 else ''}")


def in_numbers(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for a message: small tensors by their numbers."""
    return {name: Words(f"[{numbers(t)}]") if isinstance(t, Tensor) else t for name, t in case.items()}


def tensors_kind(names: str) -> Any:
    """Return what turns a result into that many tensors."""
    expected = names.split(", ")

    def kind(got: Any, case: Case) -> tuple[Tensor, ...]:
        if (
            not isinstance(got, tuple | list)
            or len(got) != len(expected)
            or not all(isinstance(t, Tensor) for t in got)
        ):
            missing, count = (
                "Is a return missing?" if got is None else "",
                {2: "two", 3: "three"}[len(expected)],
            )
            raise CheckFailed(
                f"expected {count} tensors: {names}", in_numbers(case), got=describe(got), hint=missing
            )
        return tuple(got)

    return kind


def tensor_broken(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what is wrong with a tensor."""
    if got.shape != right.shape:
        return "wrong in shape"
    return "wrong in type" if got.dtype != right.dtype else "wrong values"


def tensor_shown(tensor: Tensor) -> str:
    """Return a tensor's numbers, shape and type."""
    return f"{numbers(tensor)}; shape {tuple(tensor.shape)}, {tensor.dtype}"


def nan_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what a tensor of another shape or type, or a NaN, tells."""
    if got.shape != right.shape:
        return "Do single numbers per query keep their own dimension?" if got.numel() == right.numel() else ""
    if got.dtype != right.dtype:
        return "Statistics are fp32, whatever the scores are. Where does another type come in?"
    if bool(got.isnan().any()):
        return "There is a NaN. Where does it come from?"
    if bool(((right == NONE) & (got != NONE)).any()):
        return "A query that has seen no key has minus infinity there. Is another number put in its place?"
    if bool(((right == 0) & (got != 0)).any()) and torch.allclose(got, right, atol=1e-3):
        return "A query that has seen no key has a sum of 0. Is something small added to it?"
    nearly = torch.allclose(got, right, rtol=1e-2, atol=1e-2)
    return (
        "Nearly right. Is something computed in half precision on the way, or only nearly?" if nearly else ""
    )


def maximum_facts(got: Tensor, right: Tensor, case: Case) -> str:
    """Return what a wrong maximum tells."""
    said = nan_facts(got, right, case)
    return said or "Is it the largest score so far: of all blocks, and of each query by itself?"


def _block(
    generator: torch.Generator, queries: int, keys: int, dim: int, dtype: torch.dtype, size: float, more: float
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return scores and values of one block."""
    scores = torch.randn(queries, keys, generator=generator) * size + more
    return scores.to(dtype), torch.randn(keys, dim, generator=generator).to(dtype)


def update_cases(draw: random.Random) -> Iterator[Case]:
    """Yield one step after another of streams: rising and falling scores, large ones, half precision, hidden keys."""
    while True:
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        queries, dim = draw.randrange(1, 5), draw.randrange(1, 4)
        state: answers.State = (
            torch.full((queries, 1), NONE),
            torch.zeros(queries, 1),
            torch.zeros(queries, dim),
        )
        dtype = draw.choice(
            (torch.float32, torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64)
        )
        wide = dtype == torch.float32
        size = draw.choice((1.0, 1.0, 0.0, 100.0)) if wide else 1.0
        for _ in range(draw.randrange(1, 5)):
            more = (
                draw.choice((0.0, 2.0, -3.0, 300.0, -300.0, -3000.0))
                if wide
                else draw.choice((0.0, 1.5, -1.5))
            )
            scores, values = _block(generator, queries, draw.randrange(1, 7), dim, dtype, size, more)
            hidden = draw.random()
            if hidden < 0.2:
                scores[:] = NONE
            elif hidden < 0.4:
                scores[: draw.randrange(queries + 1)] = NONE
            elif hidden < 0.6:
                scores[torch.rand(scores.shape, generator=generator) < 0.4] = NONE
            case = dict(
                zip(
                    ("maximum", "total", "weighted", "scores", "values"),
                    (*state, scores, values),
                    strict=True,
                )
            )
            yield case
            state = answers.update(*state, scores, values)


_OLD = "What was added before was taken with the old maximum."
UPDATES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "What is minus infinity minus minus infinity? A query may have seen no key yet.": ({"guarded": False},),
    f"{_OLD} Is the old sum brought to the new one?": ({"rescale": (False, True)},),
    f"{_OLD} Are the old weighted values brought to the new one?": ({"rescale": (True, False)},),
    f"{_OLD} Is anything of it brought to the new one?": ({"rescale": (False, False)},),
    "Is that the largest score of this block alone, or of all keys so far?": (
        {"largest": "block"}, {"largest": "block", "guarded": False}, {"largest": "block", "rescale": (False, False)},
        {"largest": "block", "rescale": (False, False), "guarded": False}),
    "Does the maximum take the new block in?": ({"largest": "old"}, {"largest": "old", "guarded": False}, {"largest": "first"}),
    "When the maximum grows, old weights shrink. Is the difference taken the right way round?": ({"sign": -1}, {"sign": -1, "guarded": False}),
    "Is the maximum subtracted before exp?": ({"shifted": False},),
    "Is something computed in half precision? Weights and sums are fp32 here, whatever the scores are.": ({"half": "weights"}, {"half": "product"}),
    "Is the division made in every step? One at the very end is enough.": ({"divide": True},),
    "Scores may be very negative. Is there a bound below which they vanish?": tuple({"lowest": -n} for n in (50.0, 80.0, 88.0, 100.0, 1000.0)),
    "Is the number of keys added in place of the sum of their weights?": ({"counted": True},),
}  # fmt: skip


def _updates(part: int) -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to one part."""
    return {
        words: tuple(
            lambda options=options, **case: answers.update(**case, **options)[part] for options in several
        )
        for words, several in UPDATES.items()
    }


def _whole_updates() -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to all parts together."""
    return {
        words: tuple(lambda options=options, **case: answers.update(**case, **options) for options in several)
        for words, several in UPDATES.items()
    }


UPDATE = Family(
    answers.update,
    update_cases,
    tuple(
        Part(name, broken=tensor_broken, mistakes=_updates(i), same=near, shown=tensor_shown, facts=facts)
        for i, (name, facts) in enumerate(
            (("maximum", maximum_facts), ("total", nan_facts), ("weighted", nan_facts))
        )
    ),
    kind=tensors_kind("maximum, total, weighted"),
    tensors=True,
    joint=_whole_updates(),
    shown=in_numbers,
)  # fmt: skip
