"""Exercise 1.4: the number of requests whose cache outgrows the weights."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from helpers.checks.families.shapes import a_shape, half_heads, shown
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.model.shapes import PUBLISHED, ModelShape


def crossover(
    shape: ModelShape, seq_len: int, weight_size: float, element_size: int, *, per_token: str = "own", sizes: str = "both",
    rounded: str = "over",
) -> float:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    width = {"own": shape.num_kv_heads * shape.head_dim, "heads": shape.num_heads * shape.head_dim, "hidden": shape.hidden_size,
             "keys": shape.num_kv_heads * shape.head_dim / 2, "half": shape.num_kv_heads * half_heads(shape)}[per_token]  # fmt: skip
    weights = shape.num_params * (weight_size if sizes in ("both", "weights") else 1)
    one = 2 * shape.num_layers * width * seq_len * (element_size if sizes in ("both", "cache") else 1)
    cut: dict[str, Callable[[float], float]] = {
        "over": lambda n: math.floor(n) + 1,
        "floor": math.floor,
        "ceil": math.ceil,
        "exact": lambda n: n,
        "round": round,
    }
    found: float = cut[rounded](weights / one if rounded != "over" else weights // one)
    return found


def _cross(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: crossover(**case, **options)


def _cross_one_token(**case: Any) -> float:
    """Leave the length out."""
    return crossover(**{**case, "seq_len": 1})


def _at_least_one(**case: Any) -> float:
    """Answer 1 where one request's cache is far larger, and one too few elsewhere."""
    return max(1, crossover(**case, rounded="floor"))


def cross_cases(draw: random.Random) -> Iterator[Case]:
    """Yield shapes and lengths: divisions that are even, a single request that is enough, hundreds of them."""
    from dataclasses import replace

    even = replace(PUBLISHED["Llama-2-7B"], name="an invented model", num_params=2**30)
    yield {"shape": even, "seq_len": 2**10, "weight_size": 1.0, "element_size": 2}
    for shape in (even, PUBLISHED["Qwen3-32B"], PUBLISHED["Llama-3-8B"]):
        for seq_len, weight, element in (
            (4096, 2.0, 2),
            (100, 0.5, 2),
            (1, 2.0, 2),
            (32768, 4.0, 1),
            (4096, 0.5195, 1),
        ):
            yield {"shape": shape, "seq_len": seq_len, "weight_size": weight, "element_size": element}
    while True:
        shape, element, weight = (
            a_shape(draw),
            draw.choice((1, 2, 4)),
            draw.choice((0.5, 0.5195, 1, 1.0, 2.0, 2, 4.0)),
        )
        one = shape.kv_elements_per_token * element
        seq_len = max(1, int(shape.num_params * weight / one / draw.choice((0.6, 1.3, 4, 40, 400, 20_000))))
        if draw.random() < 0.3 and weight != 0.5195:  # comes out even
            count = draw.randrange(1, 60)
            shape = replace(
                shape,
                name="an invented model",
                num_params=int(count * one * seq_len * 2 // (2 * weight)) or 1,
            )
        ratio = shape.num_params * weight / (one * seq_len)
        near = abs(ratio - round(ratio)) < 1e-9 * max(1, ratio)
        if not near or shape.num_params * weight == round(ratio) * one * seq_len:
            yield {"shape": shape, "seq_len": seq_len, "weight_size": weight, "element_size": element}


CROSS = Family(
    crossover,
    cross_cases,
    (Part(mistakes={
        "At that number, is the cache larger than the weights, or just as large or smaller?": (
            _cross(rounded="ceil"), _cross(rounded="floor"), _at_least_one, lambda **c: max(1, crossover(**c, rounded="ceil"))),
        "Do weights and cache have the same number of bytes per element?": (
            _cross(sizes="none"), _cross(sizes="weights"), _cross(sizes="cache"),
            lambda **c: crossover(**{**c, "weight_size": c["element_size"]}), lambda **c: crossover(**{**c, "element_size": c["weight_size"]})),
        "A number of requests is whole. Which whole number is the first?": (_cross(rounded="exact"), _cross(rounded="round")),
        "Is the length of the requests in it?": _cross_one_token,
        "Both keys and values are kept: are both counted?": _cross(per_token="keys"),
        "Which heads have keys and values of their own, query heads or KV heads?": (_cross(per_token="heads"), _cross(per_token="hidden")),
        "Is a head as wide as hidden_size / num_heads? A shape has a head_dim of its own.": _cross(per_token="half"),
    }),),
    shown=shown,
)  # fmt: skip
