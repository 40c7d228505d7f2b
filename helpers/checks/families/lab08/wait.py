"""Exercise 8.1: jobs at one seat."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from statistics import fmean, median

from helpers.checks.machinery.family import Case, Family, Part


def waits(seconds: Sequence[float]) -> list[float]:
    """Return how long each job waits."""
    found, before = list[float](), 0.0
    for one in seconds:
        found.append(before)
        before += one
    return found


def mean_wait(seconds: Sequence[float]) -> float:
    """Return the right answer."""
    return fmean(waits(seconds))


def wait_cases(draw: random.Random) -> Iterator[Case]:
    """Yield jobs: one, equal ones, sorted either way, many."""
    for seconds in (
        [4.0],
        [2.0, 6.0],
        [6, 2],
        [1.0, 1.0, 1.0],
        [5.0, 1.0, 3.0, 9.0],
        [9.0, 0.5, 0.25, 0.25],
        [1.5] * 400,
    ):
        yield {"seconds": seconds}
    while True:
        count = draw.randrange(1, draw.choice((3, 8, 60)))
        longest = draw.choice((10, 3000))
        yield {
            "seconds": [
                draw.choice((draw.randrange(1, longest), draw.randrange(1, 4 * longest) / 4))
                for _ in range(count)
            ]
        }


WAIT = Family(
    mean_wait,
    wait_cases,
    (Part(mistakes={
        "Is a job's own time a part of its wait?": lambda seconds: fmean(waits(seconds)) + fmean(seconds),
        "That is the sum of all waits. What is the mean?": lambda seconds: sum(waits(seconds)),
        "The first one waits for 0 seconds. Does it count as one of them?": (
            lambda seconds: sum(waits(seconds)) / max(1, len(seconds) - 1)),
        "Does one wait for the job before alone, or for all before it?": lambda seconds: sum(seconds[:-1]) / len(seconds),
        "That is the last one's wait. What is the mean of all?": lambda seconds: waits(seconds)[-1],
        "That is the mean length. How long do they wait?": lambda seconds: fmean(seconds),
        "They are served in the order given. Were they sorted?": (
            lambda seconds: mean_wait(sorted(seconds)), lambda seconds: mean_wait(sorted(seconds)[::-1])),
        "Is the first of the list served last?": lambda seconds: mean_wait(seconds[::-1]),
        "Is it the mean, or the median?": lambda seconds: median(waits(seconds)),
        "Is that a whole number? A mean need not be one.": (
            lambda seconds: sum(waits(seconds)) // len(seconds), lambda seconds: round(fmean(waits(seconds)))),
    }),),
    valid=lambda seconds: len(seconds) > 0 and all(s > 0 for s in seconds),
)  # fmt: skip
