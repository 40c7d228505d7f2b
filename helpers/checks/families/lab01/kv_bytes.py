"""Exercise 1.2: bytes of the cache of any model; any count may be 0."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from helpers.checks.families.shapes import a_shape, half_heads, overflow_facts, shown
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.model.shapes import PUBLISHED, ModelShape


def kv_bytes(
    shape: ModelShape, batch_size: int, seq_len: int, element_size: int, *, width: str = "kv", pairs: float = 2,
    layers: bool = True, batch: bool = True, size: int = 0, least: int = 0, head: str = "own", seq: bool = True,
) -> float:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    per_layer = {
        "kv": shape.num_kv_heads * shape.head_dim, "heads": shape.num_heads * shape.head_dim,
        "hidden": shape.hidden_size, "half": shape.num_kv_heads * half_heads(shape),
        "exact": shape.num_kv_heads * shape.hidden_size / shape.num_heads,
    }[width]  # fmt: skip
    tokens = (max(batch_size, least) if batch else 1) * (max(seq_len, least) if seq else 1)
    return pairs * tokens * (shape.num_layers if layers else 1) * per_layer * (size or element_size)


def _kv(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: kv_bytes(**case, **options)


def _two_or_four(**case: Any) -> float:
    """Know bf16 and fp32 alone."""
    return kv_bytes(**case, size=2 if case["element_size"] == 2 else 4)


def kv_cases(draw: random.Random) -> Iterator[Case]:
    """Yield shapes and counts; any count may be 0."""
    for batch, seq, size in ((1, 1, 2), (0, 10, 2), (10, 0, 2), (0, 0, 1), (16, 4096, 4), (3, 1000, 1)):
        yield {"shape": PUBLISHED["Qwen3-32B"], "batch_size": batch, "seq_len": seq, "element_size": size}
    while True:
        yield {"shape": a_shape(draw), "batch_size": draw.choice((0, 1, draw.randrange(5000))),
               "seq_len": draw.choice((0, 1, draw.randrange(300), draw.randrange(10**6))), "element_size": draw.choice((1, 2, 4))}  # fmt: skip


KV = Family(
    kv_bytes,
    kv_cases,
    (Part(facts=overflow_facts, mistakes={
        "Which width do keys have: hidden_size, or KV heads times head_dim?": _kv(width="hidden"),
        "Which heads have keys and values of their own, query heads or KV heads?": _kv(width="heads"),
        "Is a head as wide as hidden_size / num_heads? A shape has a head_dim of its own.": (_kv(width="half"), _kv(width="exact")),
        "Both keys and values are kept: are both counted?": _kv(pairs=1),
        "Is every layer counted?": _kv(layers=False),
        "Does every request of the batch have a cache of its own?": _kv(batch=False),
        "Is the length of the requests in it?": _kv(seq=False),
        "A count may be 0, and then nothing is kept. Is it taken for 1?": (
            _kv(least=1), lambda **c: kv_bytes(**{**c, "seq_len": max(1, c["seq_len"])}),
            lambda **c: kv_bytes(**{**c, "batch_size": max(1, c["batch_size"])})),
        "Bytes are asked for. Are these MB, or MiB?": (lambda **c: kv_bytes(**c) / 1e6, lambda **c: kv_bytes(**c) / 2**20),
        "What the requests hold is asked for. Is a token counted that is still to come?": (
            lambda **c: kv_bytes(**{**c, "seq_len": c["seq_len"] + 1})),
        "How many bytes has an element? Is element_size used?": (_kv(size=1), _kv(size=2), _kv(size=4), _two_or_four),
    }),),
    shown=shown,
)  # fmt: skip
