"""Exercise 11.2: an MLP whose columns are shared out, and the sum that makes it whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families.lab07.update import numbers
from helpers.checks.families.lab11 import lockstep
from helpers.checks.families.lab11.lockstep import Reduce
from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong

Streams = list[Tensor]


def mlp(
    x: Tensor, residual: Tensor, up: Tensor, down: Tensor, bias: Tensor, rank: int, all_reduce: Reduce, *, reduce: str = "product",
    bias_at: str = "after", residual_at: str = "after", relu: str = "inside",
) -> Tensor:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    x = all_reduce(x) if reduce == "input" else x
    hidden = all_reduce(x @ up.T) if reduce == "sum inside" else x @ up.T
    hidden = hidden.relu() if relu == "inside" else hidden
    hidden = all_reduce(hidden) if reduce == "relu inside" else hidden
    product = hidden @ down.T
    product = product.relu() if relu == "product" else product
    before = {"before": 1.0, "after": 0.0, "lost": 0.0, "first rank": 0.0}
    product = product + before[bias_at] * bias + before[residual_at] * residual
    total = all_reduce(product) if reduce == "product" else product
    total = total.relu() if relu == "sum" else total
    after = {"before": 0.0, "after": 1.0, "lost": 0.0, "first rank": float(rank == 0)}
    return total + after[bias_at] * bias + after[residual_at] * residual


def parts_of(
    x: Tensor, residual: Tensor, ups: Sequence[Tensor], downs: Sequence[Tensor], bias: Tensor
) -> list[dict[str, Any]]:
    """Return each rank's arguments."""
    pairs = enumerate(zip(ups, downs, strict=True))
    whole = {"x": x, "residual": residual, "bias": bias}
    return [{**whole, "up": up, "down": down, "rank": rank} for rank, (up, down) in pairs]


def as_ranks(function: Callable[..., Tensor], layer: Mapping[str, Tensor], world: int) -> Streams:
    """Return what `function` returns as each of `world` ranks, for an MLP whose columns are split.

    `layer` has `x`, `residual`, `up` `[columns, hidden]`, `down` `[hidden, columns]` and `bias`.
    """
    ups, downs = layer["up"].tensor_split(world), layer["down"].tensor_split(world, dim=1)
    whole = {name: layer[name] for name in ("x", "residual", "bias")}
    return lockstep.run(function, parts_of(ups=ups, downs=downs, **whole), ("residual",))[0]


def solved(**case: Any) -> tuple[Streams, int]:
    """Return the right streams and the number of sums."""
    return run_all(mlp)(**case)


def run_all(function: Callable[..., Tensor]) -> Callable[..., tuple[Streams, int]]:
    """Return what runs a reference function as all ranks."""
    return lambda **case: lockstep.run(function, parts_of(**case))


def _all(**options: Any) -> Wrong:
    """Return a wrong answer for the streams of all ranks; RuntimeError where real ranks would end."""

    def wrong(**case: Any) -> Streams:
        try:
            return run_all(lambda **part: mlp(**part, **options))(**case)[0]
        except CheckFailed as failure:
            raise RuntimeError("the ranks end") from failure

    return wrong


def _scaled(factor: Callable[[int], float]) -> Wrong:
    """Return the right sum of products, multiplied by something that depends on the number of ranks."""

    def wrong(**case: Any) -> Streams:
        streams, _ = run_all(lambda **part: mlp(**part, bias_at="lost", residual_at="lost"))(**case)
        return [stream * factor(len(streams)) + case["bias"] + case["residual"] for stream in streams]

    return wrong


def mlp_cases(draw: random.Random) -> Iterator[Case]:
    """Yield layers of one to eight ranks, whose parts are equally wide or not; some have large numbers."""
    for number in range(10**9):
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        tokens, hidden = draw.randrange(1, 4), draw.randrange(1, 5)
        world = (2, 3, 2, 1, 8)[number] if number < 5 else draw.randrange(1, 5)
        size = 8.0 if number % 4 == 3 else 1.0
        widths = (
            [draw.randrange(1, 4)] * world
            if draw.random() < 0.5
            else [draw.randrange(1, 5) for _ in range(world)]
        )

        def random_of(*shape: int, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(*shape, generator=generator)

        yield {
            "x": random_of(tokens, hidden) * size, "residual": random_of(tokens, hidden),
            "ups": [random_of(width, hidden) for width in widths],
            "downs": [random_of(hidden, width) for width in widths], "bias": random_of(hidden),
        }  # fmt: skip


def call(answer: Any, case: Case) -> tuple[list[Any], int]:
    """Return what the answer gives as each rank, and the number of sums. The residual may be used up."""
    return lockstep.run(answer, parts_of(**case), ("residual",), in_words(case))


def in_words(case: Case) -> dict[str, Any]:
    """Return a case for a message: sizes, and the numbers of small tensors."""
    widths = [len(up) for up in case["ups"]]
    shown = {name: Words(f"[{numbers(case[name])}]") for name in ("x", "residual", "bias")}
    return {"ranks": len(widths), "widths": widths, **shown}


def mlp_kind(got: Any, case: Case) -> tuple[Streams, int]:
    """Return all ranks' streams and the number of sums. Raises CheckFailed for what is no stream."""
    streams, sums = got
    for rank, stream in enumerate(streams):
        if not isinstance(stream, Tensor) or stream.shape != case["x"].shape:
            hint = "Is a return missing?" if stream is None else ""
            wanted = describe(case["x"])
            raise CheckFailed(
                f"rank {rank}: expected {wanted}", in_words(case), got=describe(stream), hint=hint
            )
    return streams, sums


def near(one: Streams, other: Streams) -> bool:
    """Return whether all ranks have the same numbers, but for the order in which they were added."""
    pairs = zip(one, other, strict=True)
    return all(
        a.dtype == b.dtype and torch.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True) for a, b in pairs
    )


def broken(got: Streams, right: Streams, case: Case) -> str:
    """Return what is wrong: which rank, and whether ranks disagree."""
    wrong = [rank for rank, (a, b) in enumerate(zip(got, right, strict=True)) if not near([a], [b])]
    alike = all(near([stream], [got[0]]) for stream in got)
    return (
        "wrong values, the same on all ranks" if alike else f"wrong values on rank {wrong[0]}; ranks disagree"
    )


def first_of(streams: Streams) -> str:
    """Return the numbers of the first rank's stream."""
    return f"{numbers(streams[0])} on rank 0"


SUMMED = Family(
    solved,
    mlp_cases,
    (
        Part("stream", broken=broken, same=near, shown=first_of, mistakes={
            "Each rank's product is a summand. Are the products summed, and is the sum used?": (
                _all(reduce="none"), _all(reduce="none", bias_at="lost"), _all(reduce="none", residual_at="lost")),
            "The bias is added by every rank before the sum. How often is it in the sum?": _all(bias_at="before"),
            "The residual is whole on every rank. Added before the sum, how often is it in the sum?": _all(residual_at="before"),
            "Bias and residual are whole on every rank. Added before the sum, how often are they in it?": (
                _all(bias_at="before", residual_at="before")),
            "Is the bias added on one rank alone, after the sum? Then ranks disagree.": _all(bias_at="first rank"),
            "Is the residual added on one rank alone, after the sum? Then ranks disagree.": (
                _all(residual_at="first rank"), _all(residual_at="first rank", bias_at="first rank")),
            "Is the bias added?": _all(bias_at="lost"),
            "Is the residual added?": (_all(residual_at="lost"), _all(residual_at="lost", bias_at="lost")),
            "The input is whole on every rank. Is it summed?": (_all(reduce="input"), _scaled(float)),
            "Ranks have different columns between the two matrices. Is that what is summed?": (
                _all(reduce="sum inside"), _all(reduce="relu inside")),
            "Is it the sum of the products, or their mean?": _scaled(lambda world: 1 / world),
            "Is the relu left out?": _all(relu="none"),
            "The relu stands between the two products. Is it after the sum?": _all(relu="sum"),
            "The relu stands between the two products. Is it after the second one?": _all(relu="product"),
        }),
        Part("sums", broken="one sum for each MLP is enough, and each costs time"),
    ),
    kind=mlp_kind,
    call=call,
    tensors=True,
    shown=in_words,
    count=60,
)  # fmt: skip
