"""Models that no answer can know by heart, and how a message shows them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helpers.checks.machinery.failure import Words
from helpers.checks.machinery.values import equal
from helpers.model.shapes import PUBLISHED, ModelShape

KNOWN = [PUBLISHED[name] for name in ("Qwen3-32B", "Llama-3-8B", "SmolLM2-135M", "Qwen2.5-7B", "Llama-2-7B")]


def a_shape(draw: random.Random) -> ModelShape:
    """Return a published shape, or one whose heads, width and size have nothing to do with each other."""
    if draw.random() < 0.3:
        return draw.choice(KNOWN)
    kv_heads = draw.choice((1, 2, 3, 4, 8))
    heads = kv_heads * draw.choice((1, 2, 3, 5))
    return replace(
        PUBLISHED["Llama-3-8B"], name="an invented model", num_layers=draw.randint(1, 60), num_heads=heads,
        num_kv_heads=kv_heads, head_dim=draw.choice((16, 48, 64, 80, 96, 128, 256)), hidden_size=draw.randint(500, 9000),
        num_params=draw.randint(10**7, 10**11),
    )  # fmt: skip


def shown(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a case with the sizes of its invented model in words."""
    shape = case["shape"]
    if shape.name != "an invented model":
        return case
    sizes = (
        f"{shape.name} ({shape.num_params:,} weights, {shape.num_layers} layers, {shape.num_heads} heads, "
        f"{shape.num_kv_heads} KV heads of {shape.head_dim}, hidden size {shape.hidden_size})"
    )
    return {**case, "shape": Words(sizes)}


def overflow_facts(got: Any, right: Any, case: Mapping[str, Any]) -> str:
    """Return what a number below 0, or nearly the right one, tells."""
    if got < 0:
        return "A count below 0: is something counted in 32 bits, which end at 2 147 483 647?"
    return (
        "Nearly right: is something counted in fp32, which has 24 bits?"
        if equal(got, right, rel=1e-6)
        else ""
    )


def half_heads(shape: ModelShape) -> float:
    """Return what some take for the head dimension: the hidden size over the number of heads."""
    return shape.hidden_size // shape.num_heads
