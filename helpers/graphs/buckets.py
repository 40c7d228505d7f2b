"""Capture sizes: the batch sizes for which a graph is captured, and the padding up to them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from torch import Tensor

from helpers.graphs.decode_step import DecodeStep

Histogram = Mapping[int, int]
"""How many steps had each batch size."""


class Buckets:
    """Sizes in ascending order; a batch runs at the smallest size that holds it."""

    def __init__(self, sizes: Iterable[int]):
        """Keep the sizes. Raises ValueError for none, for one under 1, and for one that is given twice."""
        self.sizes = tuple(sorted(sizes))
        if not self.sizes or self.sizes[0] < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"expected different sizes of 1 or more, got {list(self.sizes)}")

    def size_for(self, batch: int) -> int | None:
        """Return the size at which a batch runs; None where it is larger than all sizes and runs without a graph."""
        place = bisect_left(self.sizes, batch)
        return self.sizes[place] if place < len(self.sizes) else None

    def padded_rows(self, histogram: Histogram) -> int:
        """Return the rows that are computed for no request, over all steps that run in a graph."""
        found = ((self.size_for(batch), batch, steps) for batch, steps in histogram.items())
        return sum((size - batch) * steps for size, batch, steps in found if size is not None)

    def share_in_graphs(self, histogram: Histogram) -> float:
        """Return the share of the steps that run in a graph."""
        inside = sum(steps for batch, steps in histogram.items() if self.size_for(batch) is not None)
        return inside / sum(histogram.values())


def vllm_sizes(most: int) -> tuple[int, ...]:
    """Return the sizes that vLLM captures by default for batches of up to `most` tokens.

    The rule is that of `CompilationConfig` in vLLM 0.23: 1, 2, 4, then steps of 8, from 256 on of 16. Raises
    ValueError for less than 1.
    """
    if most < 1:
        raise ValueError(f"expected a size of 1 or more, got {most}")
    return tuple(n for n in (1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16)) if n <= most)


def best_sizes(histogram: Histogram, count: int) -> tuple[int, ...]:
    """Return at most `count` sizes that hold every batch of a histogram with the fewest padded rows.

    Only batch sizes of the histogram can be best. `cost[b]` is the least padding of batches up to `b` when `b`
    is captured; the largest size below `b` decides it. Takes O(count n^2) for n batch sizes. Raises
    ValueError for an empty histogram, a batch or a count under 1.
    """
    batches = sorted(batch for batch, steps in histogram.items() if steps > 0)
    if not batches or batches[0] < 1 or count < 1:
        raise ValueError(
            f"expected batches of 1 or more and a count of 1 or more, got {dict(histogram)}, {count}"
        )

    steps = [0, *accumulate(histogram[b] for b in batches)]
    rows = [0, *accumulate(b * histogram[b] for b in batches)]

    def padding(after: int, last: int) -> int:
        """Return the padding of the batches behind number `after` up to number `last`, at the latter's size."""
        computed = batches[last] * (steps[last + 1] - steps[after + 1])
        return computed - (rows[last + 1] - rows[after + 1])

    best: list[tuple[int, tuple[int, ...]]] = [(padding(-1, i), (batches[i],)) for i in range(len(batches))]
    for _ in range(count - 1):
        best = [
            min([best[i], *((best[j][0] + padding(j, i), (*best[j][1], batches[i])) for j in range(i))])
            for i in range(len(batches))
        ]
    return best[-1][1]


class BucketedDecode:
    """Decode steps of the first rows of a cache, each in the smallest captured step that holds the batch."""

    def __init__(self, capture: Callable[[list[int]], DecodeStep], sizes: Iterable[int]):
        """Capture a step for each size, over the rows 0, 1, ... that `capture` is given.

        Raises ValueError as `Buckets` does.
        """
        self.buckets = Buckets(sizes)
        self._steps = {size: capture(list(range(size))) for size in reversed(self.buckets.sizes)}

    def step(self, token_ids: list[int]) -> tuple[int, Tensor]:
        """Return the size of the step that ran, and the logits `[tokens, vocab]` (`DecodeStep.step`).

        Raises ValueError for more tokens than the largest size.
        """
        size = self.buckets.size_for(len(token_ids))
        if size is None:
            raise ValueError(
                f"{len(token_ids)} tokens, and the largest captured step has {self.buckets.sizes[-1]}"
            )
        return size, self._steps[size].step(token_ids)
