"""Exercise 4.1: prompts, and what is stored."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part

Texts = Sequence[Sequence[int]]
LAST = "Of a prompt that is stored from end to end, what must be computed all the same?"
_PAGES = "Only whole pages are kept. Is the answer a multiple of the page size?"


def same(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens of two texts agree from the start."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))


def _anywhere(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens agree at all."""
    return sum(x == y for x, y in zip(a, b, strict=False))


def _inside(prompt: Sequence[int], text: Sequence[int]) -> int:
    """Return a text's length if the prompt begins with all of it."""
    return len(text) if list(prompt[: len(text)]) == list(text) else 0


def match(
    prompt: Sequence[int], stored: Texts, page_size: int, *, last: bool = True, unit: str = "down",
    which: Callable[[list[int]], int] = max, count: Callable[[Sequence[int], Sequence[int]], int] = same,
    each: bool = True,
) -> int:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    asked = prompt[: max(len(prompt) - 1, 0)] if last else prompt
    found = which([count(asked, text) // (page_size if each else 1) * (page_size if each else 1)
                   for text in stored] or [0])  # fmt: skip
    if unit == "pages":
        return found // page_size
    return found if unit == "none" else (found + (page_size - 1) * (unit == "up")) // page_size * page_size


def _match(**options: Any) -> Callable[..., int]:
    """Return a wrong answer."""
    return lambda prompt, stored, page_size: match(prompt, stored, page_size, **options)


def _whole(prompt: Sequence[int], stored: Texts, page_size: int) -> int:
    """Find a prompt only if all of the prompt is stored."""
    return len(prompt) if list(prompt) in [list(text) for text in stored] else 0


def random_text(draw: random.Random, most: int, tokens: int) -> list[int]:
    """Return a text over few different tokens, so that beginnings and parts agree by chance."""
    return [draw.randrange(tokens) for _ in range(draw.randrange(most + 1))]


def _twins(draw: random.Random, prompt: Sequence[int]) -> list[list[int]]:
    """Return the prompt with some tokens changed so that plain sums of a page, and weighted ones, stay the same."""
    if len(prompt) < 3:
        return []
    i, sign = draw.randrange(len(prompt) - 2), draw.choice((1, -1))
    change = (sign, -2 * sign, sign)
    twin = [
        *prompt[:i],
        *(token + by for token, by in zip(prompt[i:], change, strict=False)),
        *prompt[i + 3 :],
    ]
    return [twin] if min(twin) >= 0 else []


def match_cases(draw: random.Random) -> Iterator[Case]:
    """Yield prompts and what is stored: nothing, the prompt itself, longer texts, parts that agree further behind."""
    abc = list(range(1, 13))
    for prompt, stored, page_size in (
        ([], [], 1), ([], [[1, 2]], 1), ([5], [[5]], 1), ([5, 6, 7], [[5, 6, 7]], 1), ([5, 6, 7], [[5, 6]], 1),
        (abc, [], 2), (abc, [[1, 2], []], 4), (abc, [[*abc, 70, 71, 72, 73]], 4), (abc, [[*abc[:7], 50, 51]], 4),
        (abc, [[0, *abc], [*abc[:3], 99]], 1), ([1, 2, 3], [[1, 2, 3]], 16), (list(range(3000)), [list(range(2500))], 128),
        (abc, [[*abc[:5], 60, *abc[6:]], [7, 3, *abc[2:8]]], 1),
    ):  # fmt: skip
        yield {"prompt": prompt, "stored": stored, "page_size": page_size}
    while True:
        tokens, page_size = draw.choice((2, 3, 10, 50_000)), draw.choice((1, 1, 2, 3, 4, 7, 16))
        prompt = random_text(draw, 24, tokens)
        stored = [random_text(draw, 12, tokens) for _ in range(draw.randrange(draw.choice((4, 4, 4, 40))))]
        for _ in range(draw.randrange(4)):  # what begins as the prompt does
            stored.append(prompt[: draw.randrange(len(prompt) + 1)] + random_text(draw, 6, tokens))
        stored += _twins(draw, prompt)
        draw.shuffle(stored)
        yield {"prompt": prompt, "stored": stored, "page_size": page_size}


MATCH = Family(
    match,
    match_cases,
    (Part(mistakes={
        LAST: _match(last=False),
        _PAGES: (_match(each=False, unit="none"), _match(each=False, unit="up"), _match(each=False, unit="none", last=False)),
        "Is that counted in pages? Tokens were asked for.": (_match(unit="pages"), _match(unit="pages", last=False)),
        "Does the longest one count, or the first, the last, or all together?": (*tuple(_match(which=which, last=last) for which in (lambda n: n[0], lambda n: n[-1], sum, min) for last in (True, False)), _match(which=sum, each=False)),
        "Must a stored text be in the prompt as a whole? A common beginning is enough.": (
            _match(count=_inside, last=False, each=False, unit="none"), _match(count=_inside), _whole,
            _match(count=_inside, last=False), _match(count=_inside, each=False, unit="none"),
        ),
        "Keys and values depend on everything before. Does agreement end at the first difference?": (
            _match(count=_anywhere), _match(count=_anywhere, last=False),
            _match(count=lambda a, b: len({*a} & {*b})), _match(count=_anywhere, each=False),
        ),
    }),),
    valid=lambda prompt, stored, page_size: page_size >= 1,
)  # fmt: skip
