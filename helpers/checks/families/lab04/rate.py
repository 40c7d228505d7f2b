"""Exercise 4.3: streams of prompts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.families.lab04.match import LAST, match, random_text
from helpers.checks.machinery.family import Case, Family, Part

Texts = Sequence[Sequence[int]]


def rate(
    prompts: Texts, page_size: int, *, seen: Callable[[int], range] = range, last: bool = True,
    unit: str = "tokens", total: str = "all",
) -> float:  # fmt: skip
    """Return the right answer; `seen` gives the numbers of the prompts that the i-th prompt is compared with."""
    found = [match(p, [prompts[j] for j in seen(i)], page_size, last=last) for i, p in enumerate(prompts)]
    if unit == "prompts":
        return sum(n > 0 for n in found) / len(prompts) if prompts else 0.0
    if unit == "mean":
        shares = [n / len(p) if p else 0.0 for n, p in zip(found, prompts, strict=True)]
        return sum(shares) / len(shares) if shares else 0.0
    lengths = [len(p) for p in prompts]
    tokens = {"all": sum(lengths), "later": sum(lengths[1:]), "none": 1, "percent": sum(lengths) / 100,
              "found": sum(n for n, hit in zip(lengths, found, strict=True) if hit)}[total]  # fmt: skip
    return sum(found) / tokens if tokens else 0.0


def _rate(**options: Any) -> Callable[..., float]:
    """Return a wrong answer."""
    return lambda prompts, page_size: rate(prompts, page_size, **options)


def _later(prompts: Texts, page_size: int) -> float:
    """Look into all prompts but the present one."""
    found = [match(p, [q for j, q in enumerate(prompts) if j != i], page_size) for i, p in enumerate(prompts)]
    tokens = sum(map(len, prompts))
    return sum(found) / tokens if tokens else 0.0


def rate_cases(draw: random.Random) -> Iterator[Case]:
    """Yield streams of prompts: none, empty ones, equal ones, talks that go on, old ones that come back after many others."""
    talk = [draw.randrange(50) for _ in range(40)]
    for prompts, page_size in (
        ([], 4), ([[]], 1), ([[], []], 2), ([[7]], 1), ([talk[:8]] * 3, 4), ([talk[:8], talk[:20], talk[:33]], 1),
        ([[*talk[:12], i, i, i] for i in range(60, 65)], 4), ([talk[:4], [80] * 30, [81] * 5, talk[:7]], 2),
        ([talk[:10], [1, 1, 1], talk[:16]], 1), ([talk, *([i] * 3 for i in range(60, 90)), talk], 4),
        ([[], talk[:5], talk[:6]], 1),
    ):  # fmt: skip
        yield {"prompts": prompts, "page_size": page_size}
    while True:
        tokens, page_size = draw.choice((2, 4, 100)), draw.choice((1, 1, 2, 3, 5))
        prompts = [random_text(draw, 9, tokens) for _ in range(draw.randrange(draw.choice((3, 6, 16))))]
        for _ in range(draw.randrange(8) if prompts else 0):  # one that comes back, at the end
            old = draw.choice(prompts)
            prompts.append(old[: draw.randrange(len(old) + 1)] + random_text(draw, 4, tokens))
        yield {"prompts": prompts, "page_size": page_size}


_STAY = "Do all prompts before it stay stored, or only the last?"
_FEW = "Do all prompts before it stay stored, or only the last few?"


def _window(count: int) -> Callable[[int], range]:
    """Return which prompts a store of so many knows."""
    return lambda i: range(max(0, i - count), i)


RATE = Family(
    rate,
    rate_cases,
    (Part(mistakes={
        LAST: _rate(last=False),
        _STAY: _rate(seen=_window(1)),
        _FEW: tuple(_rate(seen=_window(count)) for count in range(2, 12)),
        "Does only the first prompt stay stored?": _rate(seen=lambda i: range(min(i, 1))),
        "Tokens are counted, not prompts. Does a long prompt weigh more than a short one?": (
            _rate(unit="mean"), _rate(unit="prompts"),
        ),
        "Is a prompt stored before it has come?": (_rate(seen=lambda i: range(i + 1)), _later),
        "The first prompt counts, too: it finds nothing. Is it among all tokens?": _rate(total="later"),
        "Are the tokens of prompts that find nothing among all tokens?": _rate(total="found"),
        "A share lies between 0 and 1. Is it a share of all tokens?": (_rate(total="none"), _rate(total="percent")),
    }),),
    valid=lambda prompts, page_size: page_size >= 1,
    count=220,
)  # fmt: skip
