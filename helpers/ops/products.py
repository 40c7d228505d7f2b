"""Which kernel computes a product of how many rows: measured on this machine once, and kept in the cache folder.

One processor's fastest kernel is another's slowest: oneDNN's packed layout makes single rows three times as fast
on one machine, and half as fast on the next. `COURSE_KERNELS` overrides: `plain` and `packed` name the layout of all
weights, and with `native` all passes are native. Codes of few bits are written out as numbers
for each product with `plain`, and never with the other two.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice

import torch
from torch import Tensor

from helpers.native.library import kernels, processor
from helpers.ops.torch_ops import linear, pack_weight
from helpers.storage.files import cache_folder, replacing

ROWS = (1, 4, 16, 64)
CODED_ROWS = (1, 4, 16, 64, 512)
NEVER = 1 << 30
_COLD = 64_000_000  # bytes of equal weights that take turns, because a model's weights come from memory
_RUNS = 5
_SLOWER = 1.05  # what counts as slower: less is noise
_WISHES = ("plain", "packed", "native")

Shapes = Mapping[tuple[int, int], int]
"""How many weights of each shape `(out, in)` a model has."""

Way = Callable[[Tensor], Tensor]
"""A way to multiply inputs."""


def wish() -> str:
    """Return what `COURSE_KERNELS` asks for; empty where measurements decide. Raises ValueError for another word."""
    word = os.environ.get("COURSE_KERNELS", "").strip()
    if word and word not in _WISHES:
        raise ValueError(f"COURSE_KERNELS is one of {', '.join(_WISHES)}, or unset; got {word!r}")
    return word


def packed_from(shapes: Shapes, dtype: torch.dtype) -> int:
    """Return the rows from which on a model's products are faster with packed weights; `NEVER` where they are not.

    The first call for a type and its shapes measures for a few seconds. Raises ValueError as `wish` does.
    """
    if wish():
        return NEVER if wish() == "plain" else 1
    settings = (str(dtype), sorted(shapes.items()), ROWS)
    plain, packed = remembered("products", settings, lambda: _times(shapes, dtype))
    return crossing(ROWS, packed, plain)


def faster_up_to(settings: object, ways: tuple[Way, Way], like: Tensor) -> int:
    """Return the rows up to which the first way to multiply is nowhere slower than the second; `NEVER` for all.

    Ways take inputs `[rows, columns]` like `like [0, columns]`, and settings name what they multiply by. The
    first call for some settings measures. Raises ValueError as `wish` does.
    """
    if wish():
        return 0 if wish() == "plain" else NEVER

    def measure() -> list[list[float]]:
        inputs = [torch.randn(rows, like.shape[1]).to(like.dtype) for rows in CODED_ROWS]
        pairs = [fastest([partial(way, x) for way in ways]) for x in inputs]
        return [list(times) for times in zip(*pairs, strict=True)]

    first, second = remembered("coded", (settings, CODED_ROWS), measure)
    slower = [rows for rows, a, b in zip(CODED_ROWS, first, second, strict=True) if a > b * _SLOWER]
    return max((rows for rows in CODED_ROWS if rows < slower[0]), default=0) if slower else NEVER


def crossing(rows: Sequence[int], ours: Sequence[float], others: Sequence[float]) -> int:
    """Return the smallest of `rows` from which on `ours` is nowhere slower than `others`, else `NEVER`."""
    found = NEVER
    for count, mine, theirs in reversed([*zip(rows, ours, others, strict=True)]):
        if mine > theirs * _SLOWER:
            break
        found = count
    return found


def fastest(ways: Sequence[Callable[[], object]], runs: int = _RUNS) -> list[float]:
    """Return the seconds of each way's fastest run; ways take turns, so that all see the same other load.

    A way that is three times as slow as another is not run again.
    """
    best = [float("inf")] * len(ways)
    for _ in range(runs):
        for i, way in enumerate(ways):
            if float("inf") > best[i] > 3 * min(best):
                continue
            begin = time.perf_counter()
            way()
            best[i] = min(best[i], time.perf_counter() - begin)
    return best


def remembered(kind: str, settings: object, measure: Callable[[], list[list[float]]]) -> list[list[float]]:
    """Return what was measured with these settings on this machine: from the cache folder, else measured now."""
    here = (processor(), torch.__version__, torch.get_num_threads(), kernels()[1:])
    name = hashlib.sha256(repr((here, settings)).encode()).hexdigest()[:16]
    path = cache_folder() / "measured" / f"{kind}-{name}.json"
    with contextlib.suppress(OSError, ValueError):
        found: list[list[float]] = json.loads(path.read_text())
        return found
    found = measure()
    with contextlib.suppress(OSError):  # a folder that cannot be written: the next process measures again
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(found))
    return found


def _times(shapes: Shapes, dtype: torch.dtype) -> list[list[float]]:
    """Return the seconds of a model's products with plain and with packed weights, for each of `ROWS`."""
    times = [[0.0] * len(ROWS) for _ in range(2)]
    for shape, count in shapes.items():
        weight = torch.randn(shape).to(dtype)
        copies = min(count, -(-_COLD // weight.nbytes))
        plain = [weight.clone() for _ in range(copies)]
        packed = [pack_weight(weight) for weight in plain]
        for i, rows in enumerate(ROWS):
            x = torch.randn(rows, shape[1]).to(dtype)
            for total, seconds in zip(times, _of_both(x, plain, packed), strict=True):
                total[i] += count * seconds
    return times


def _of_both(x: Tensor, plain: list[Tensor], packed: list[Tensor]) -> list[float]:
    """Return the seconds of one product with a plain and with a packed weight that the caches do not hold."""
    each = min(len(plain), 8)
    weights = [cycle(plain), cycle(packed)]
    ways = [lambda some=some: [linear(x, weight) for weight in islice(some, each)] for some in weights]
    return [seconds / each for seconds in fastest(ways)]
