"""Exercise 3.2: stories of a cache."""

from __future__ import annotations

import random
from collections.abc import Iterator


def stories(draw: random.Random) -> Iterator[tuple[dict[str, int], tuple[int, ...]]]:
    """Yield a cache's sizes and the new tokens of each pass: none at times, the last free slot at others."""
    for layers, capacity, chunks in (
        (3, 12, (5, 1, 1)),
        (1, 8, (8,)),
        (4, 20, (2, 3, 1, 1)),
        (2, 4, (0, 2, 0, 1)),
        (3, 5, (1, 4)),
    ):
        yield dict(num_layers=layers, capacity=capacity, kv_heads=2, head_dim=4), chunks
    while True:
        capacity, passes, used = draw.randrange(1, 24), list[int](), 0
        while used < capacity and len(passes) < 6 and (not passes or draw.random() < 0.8):
            passes.append(draw.choice((0, 1, 1, draw.randrange(1, capacity - used + 1))))
            used += passes[-1]
        passes += [0] * draw.randrange(2)  # it fits always, also where nothing else does
        sizes = dict(
            num_layers=draw.randrange(1, 5),
            capacity=capacity,
            kv_heads=draw.randrange(1, 4),
            head_dim=draw.choice((1, 3, 8)),
        )
        yield sizes, tuple(passes)
