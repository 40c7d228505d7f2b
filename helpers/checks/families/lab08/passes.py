"""Exercise 8.3: requests with a past."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part, Wrong

Job = dict[str, Any]


def passes(
    request: Job, ended: Sequence[Job], budget: int, *, mean: Callable[[Sequence[float]], float] = fmean,
    what: str = "answer", own: bool = True, unknown: Any = "cap", bounded: bool = True, known: bool = True,
    reading: Callable[[int, int], float] = lambda prompt, budget: -(-prompt // budget), start: int = -1, recent: int = 0,
) -> float:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    lengths = [e[what] for e in ended if not own or e["client"] == request["client"]][-recent:]
    cap: float = request["cap"]
    if unknown == "everybody" and not lengths:
        lengths = [e[what] for e in ended]
    likely = mean(lengths) if lengths and known else cap if unknown in ("cap", "everybody") else unknown
    likely = min(likely, cap) if bounded else likely
    return reading(request["prompt"], budget) + likely + start


def _passes(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda request, ended, budget: passes(request, ended, budget, **options)


def passes_cases(draw: random.Random) -> Iterator[Case]:
    """Yield requests: of clients with no past, a short or a long one; prompts that fill passes or do not; answers cut off."""
    seen = [("a", 20), ("b", 205), ("a", 90), ("a", 31), ("b", 180), ("a", 39), ("c", 22), ("c", 23)]
    for client, prompt, cap, count, budget in (
        ("a", 1300, 300, 8, 512), ("b", 100, 250, 8, 512), ("a", 600, 30, 8, 256), ("d", 1024, 120, 8, 512), ("b", 512, 64, 0, 512),
        ("c", 1025, 100, 8, 512), ("a", 10, 400, 1, 64), ("a", 1, 1, 0, 1), ("c", 1, 1, 8, 64),
    ):  # fmt: skip
        past = [
            {"client": c, "prompt": 50 + n, "cap": 350 + n, "answer": length}
            for n, (c, length) in enumerate(seen[:count])
        ]
        yield {"request": {"client": client, "prompt": prompt, "cap": cap}, "ended": past, "budget": budget}
    while True:
        budget, longest = draw.choice((1, 7, 64, 512)), draw.choice((4, 60, 500))
        clients = draw.choice((("a", "b"), ("a", "ab", "A"), ("a",), ("Ann", "Anna")))
        past = []
        for _ in range(draw.choice((0, 1, 2, 5, 12, 40, 120))):
            past.append({"client": draw.choice(clients), "prompt": draw.randrange(1, 900), "cap": longest,
                         "answer": draw.randrange(1, longest + 1)})  # fmt: skip
        request = {"client": draw.choice([*clients, "d"]), "cap": draw.randrange(1, longest + 1),
                   "prompt": draw.choice((draw.randrange(1, 2000), budget * draw.randrange(1, 4)))}  # fmt: skip
        yield {"request": request, "ended": past, "budget": budget}


def _is_past(request: Job, ended: Sequence[Job], budget: int) -> bool:
    """Return whether all requests have their entries, of one token or more."""
    whole = len(request) == 3 and all(
        len(e) == 4 and min(e["prompt"], e["cap"], e["answer"]) >= 1 for e in ended
    )
    return whole and budget >= 1 and min(request["prompt"], request["cap"]) >= 1


def _cut_first(request: Job, ended: Sequence[Job], budget: int) -> float:
    """Bound each answer, not the mean."""
    return passes(request, [{**e, "answer": min(e["answer"], request["cap"])} for e in ended], budget)


def _same_cap(request: Job, ended: Sequence[Job], budget: int) -> float:
    """Look at those alone that were allowed as much."""
    return passes(request, [e for e in ended if e["cap"] == request["cap"]], budget)


def _begins_so(one: str, name: str) -> bool:
    """Return whether a name begins with another."""
    return one.startswith(name)


def _renamed(alike: Callable[[str, str], bool]) -> Wrong:
    """Return a wrong answer that takes names for the request's that are only like it."""

    def wrong(request: Job, ended: Sequence[Job], budget: int) -> float:
        name = request["client"]
        return passes(
            request, [e | {"client": name} if alike(e["client"], name) else e for e in ended], budget
        )

    return wrong


PASSES = Family(
    passes,
    passes_cases,
    (Part(mistakes={
        "That is the prompt's length. How many passes is it, and how many come after?": lambda request, ended, budget: request["prompt"],
        "A pass computes up to `budget` tokens of a prompt. Do they count one by one?": tuple(
            _passes(reading=lambda prompt, budget: prompt, start=start) for start in (-1, 0)),
        "The prompt's last pass gives the first token of the answer. Is a pass counted twice?": _passes(start=0),
        "Does the prompt take passes, too?": tuple(_passes(reading=lambda prompt, budget: 0, start=start) for start in (-1, 0)),
        "Is the prompt's last pass a whole one, be it full or not?": tuple(
            _passes(reading=reading, start=start) for start in (-1, 0)
            for reading in (lambda prompt, budget: prompt // budget, lambda prompt, budget: prompt / budget)),
        "A prompt that fills its passes exactly needs no other. Is one added?": _passes(reading=lambda prompt, budget: prompt // budget + 1),
        "Of this client no request has ended yet. What is known about the answer is what the request allows.": (
            _passes(unknown=0), _passes(unknown=1), _passes(unknown="everybody")),
        "Does each client have a mean of its own?": _passes(own=False),
        "Can an answer be longer than the request allows?": _passes(bounded=False),
        "That is what the request allows. What have this client's answers been like?": (_passes(known=False), _passes(what="cap")),
        "That is what ended requests allowed. How long were their answers?": _passes(what="cap", bounded=False),
        "That is how long ended prompts were. How long were the answers?": (_passes(what="prompt"), _passes(what="prompt", bounded=False)),
        "Is it the mean, or the median?": _passes(mean=median),
        "Is it the mean, or the last one?": _passes(mean=lambda lengths: lengths[-1]),
        "Is it the mean, or the first one?": _passes(mean=lambda lengths: lengths[0]),
        "Is it the mean, or the longest one?": _passes(mean=max),
        "Is it the mean, or the shortest one?": _passes(mean=min),
        "Is it the mean, or the sum?": _passes(mean=sum),
        "The mean is bounded by what the request allows, not each answer. Are answers cut first?": _cut_first,
        "A client is the one of that very name. Is a part of a name enough, or are capitals ignored?": tuple(
            _renamed(alike) for alike in (_begins_so, lambda one, name: name in one, lambda one, name: one in name, lambda one, name: one.lower() == name.lower())),
        "Answers of this client count, whatever they were allowed. Are some left out?": _same_cap,
        "A mean need not be whole. Was it rounded?": tuple(
            _passes(mean=lambda n, cut=cut: cut(fmean(n))) for cut in (int, math.ceil, round)),
        "All answers of this client count. Is it the mean of the last few alone?": tuple(_passes(recent=n) for n in (2, 3, 4, 5, 8, 10, 16, 20, 32)),
    }),),
    valid=_is_past,
)  # fmt: skip
