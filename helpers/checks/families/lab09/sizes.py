"""Exercise 9.3: histograms of batch sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Histogram = Mapping[int, int]


def padding(histogram: Histogram, sizes: Sequence[int]) -> int:
    """Return the rows that are padding when each batch runs at the smallest size that holds it."""
    return sum((min(s for s in sizes if s >= batch) - batch) * steps for batch, steps in histogram.items())


def best(histogram: Histogram, count: int) -> int:
    """Return the least padding of at most `count` sizes."""
    batches = sorted(histogram)
    chosen: dict[tuple[int, int], int] = {}

    def least(last: int, left: int) -> int:
        if (last, left) not in chosen:
            one = padding({b: histogram[b] for b in batches[: last + 1]}, [batches[last]])
            more = [
                least(j, left - 1)
                + padding({b: histogram[b] for b in batches[j + 1 : last + 1]}, [batches[last]])
                for j in range(last if left > 1 else 0)
            ]
            chosen[last, left] = min([one, *more])
        return chosen[last, left]

    return least(len(batches) - 1, count)


def _chosen(rule: Callable[[Histogram, int], Sequence[int]]) -> Wrong:
    """Return what a rule's sizes pad; the largest batch is always held."""
    return lambda histogram, count: padding(histogram, [*rule(histogram, count), max(histogram)])


def _largest(histogram: Histogram, count: int) -> list[int]:
    """Take the largest batches."""
    return sorted(histogram)[-count:]


def _frequent(histogram: Histogram, count: int) -> list[int]:
    """Take the most frequent batches beside the largest one."""
    others = [b for b in histogram if b != max(histogram)]
    return sorted(others, key=lambda b: (-histogram[b], b))[: count - 1]


def _frequent_of_all(histogram: Histogram, count: int) -> list[int]:
    """Take the most frequent batches, and the largest in the last one's place where it is missing."""
    found = sorted(histogram, key=lambda b: (-histogram[b], b))[:count]
    return found if max(histogram) in found else found[:-1]


def _even(histogram: Histogram, count: int) -> list[int]:
    """Take sizes at even distances."""
    most = max(histogram)
    return [-(-most * i // count) for i in range(1, count + 1)]


def _even_places(histogram: Histogram, count: int) -> list[int]:
    """Take every so-manyth batch."""
    batches = sorted(histogram)
    return [batches[-(-len(batches) * i // count) - 1] for i in range(1, count + 1)]


def _powers(histogram: Histogram, count: int) -> list[int]:
    """Take powers of two below the largest batch."""
    powers = [2**i for i in range(max(histogram).bit_length()) if 2**i < max(histogram)]
    return powers[len(powers) - count + 1 :] if count > 1 else []


def _unweighted(histogram: Histogram, count: int) -> list[int]:
    """Choose as if each batch had one step."""
    return _by_search(dict.fromkeys(histogram, 1), count)


def _by_search(histogram: Histogram, count: int) -> list[int]:
    """Return the best sizes, by trying all of them."""
    batches = sorted(histogram)
    ways = (sizes for n in range(min(count, len(batches))) for sizes in combinations(batches[:-1], n))
    return [*min(ways, key=lambda sizes: padding(histogram, [*sizes, batches[-1]])), batches[-1]]


def _greedy(histogram: Histogram, count: int) -> list[int]:
    """Add the size that saves most, again and again."""
    sizes = [max(histogram)]
    while len(sizes) < min(count, len(histogram)):
        rest = [b for b in sorted(histogram) if b not in sizes]
        sizes.append(min(rest, key=lambda b: padding(histogram, [*sizes, b])))
    return sizes


def sizes_cases(draw: random.Random) -> Iterator[Case]:
    """Yield histograms: one batch size, more sizes than batches, rare large batches, hills, one size allowed."""
    for histogram, count in (
        ({4: 10}, 1), ({1: 5, 2: 5}, 2), ({1: 5, 2: 5}, 7), ({1: 90, 2: 3, 7: 80, 8: 1, 20: 1}, 2), ({3: 10, 5: 10, 9: 10}, 1),
        ({1: 6, 4: 5, 5: 5, 8: 4, 10: 1}, 3), ({2: 1, 3: 100, 4: 1, 12: 60, 13: 50, 16: 1}, 3), ({5: 2, 6: 9, 9: 9, 10: 2}, 2),
    ):  # fmt: skip
        yield {"histogram": histogram, "count": count}
    while True:
        most = draw.choice((4, 10, 40, 200))
        batches = draw.sample(range(1, most + 1), min(most, draw.randrange(1, draw.choice((4, 8, 13)))))
        heavy = draw.choice((3, 20, 1000))
        yield {"histogram": {b: draw.randrange(1, heavy + 1) for b in batches}, "count": draw.randrange(1, 6)}
        if draw.random() < 0.15:  # as many entries as there may be, and any number of sizes
            batches = draw.sample(range(1, 200), 12)
            yield {
                "histogram": {b: draw.randrange(1, heavy + 1) for b in batches},
                "count": draw.randrange(4, 13),
            }


def sizes_kind(got: Any, case: Case) -> tuple[int]:
    """Return what the sizes pad. Raises CheckFailed when they do not serve."""
    got = plain(got)
    if got is None:
        raise CheckFailed("there are no sizes yet", case, got=got, hint="Is a return missing?")
    got = list(got) if isinstance(got, set | frozenset | dict) else got
    if isinstance(got, list | tuple):
        got = [int(size) if isinstance(size, float) and size.is_integer() else size for size in got]
    if not isinstance(got, list) or not all(is_whole(size) for size in got):
        raise CheckFailed("expected a list of whole numbers", case, got=describe(got))
    sizes = sorted({*got})
    if len(sizes) > case["count"]:
        raise CheckFailed(f"{len(sizes)} sizes, and {case['count']} are allowed", case, got=describe(got))
    if not sizes or sizes[-1] < max(case["histogram"]):
        hint = "Which size must always be there?"
        raise CheckFailed("the largest batch fits into no size", case, got=describe(got), hint=hint)
    return (padding(case["histogram"], sizes),)


SIZES = Family(
    best,
    sizes_cases,
    (Part("padded rows", broken="other sizes pad less", mistakes={
        "Are these the largest batches? Then all small ones are padded up to them.": _chosen(_largest),
        "Are these the most frequent batches? A rare one that lies just below a frequent one costs nothing more, and one far below costs much.": (
            _chosen(_frequent), _chosen(_frequent_of_all)),
        "Are the sizes spread evenly? Where are the batches?": (_chosen(_even), _chosen(_even_places)),
        "Are these powers of two? The histogram says which sizes serve.": _chosen(_powers),
        "Is each batch counted once? A size that many steps have weighs more.": _chosen(_unweighted),
        "Is one size added after the other, the best one each time? What was best alone may not be so in company.": _chosen(_greedy),
        "That is one size for all. May there be more?": _chosen(lambda histogram, count: []),
    }),),
    kind=sizes_kind,
    valid=lambda histogram, count: len(histogram) > 0 and min(histogram) >= 1 and min(histogram.values()) >= 1 and count >= 1,
)  # fmt: skip
