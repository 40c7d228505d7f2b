"""Exercise 5.1: static batches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part, Wrong


def padding(
    prompts: Sequence[int], answers: Sequence[int], batch_size: int, *, needed: int = 1, full: bool = False,
    prompt_max: str = "batch", answer_max: str = "batch", last: int = 1, passes: int = -1, order: str = "given",
    drop: bool = False,
) -> int:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one.

    `needed`: how often the needed tokens come off.
    """
    pairs = list(zip(prompts, answers, strict=True))
    keys: dict[str, Callable[[Any], Any]] = {
        "pairs": lambda pair: pair, "prompt": lambda pair: pair[0], "answer": lambda pair: pair[1],
        "total": sum, "longest": lambda pair: -pair[0],
    }  # fmt: skip
    pairs = pairs if order == "given" else sorted(pairs, key=keys[order])
    computed = 0
    for i in range(0, len(pairs), batch_size):
        batch = pairs[i : i + batch_size]
        if drop and len(batch) < batch_size:
            continue
        own = [max(p for p, _ in batch), max(a for _, a in batch)]
        width = own[0] if prompt_max == "batch" else max(prompts)
        length = own[1] if answer_max == "batch" else max(answers)
        rows = batch_size if full else len(batch)
        computed += sum(p for p, _ in batch) if prompt_max == "none" else rows * width
        computed += sum(a + passes for _, a in batch) if answer_max == "none" else rows * (length + passes)
        computed -= needed * sum(p + a - last for p, a in batch) if drop else 0
    useful = sum(p + a - last for p, a in pairs)
    return computed - (0 if drop else needed * useful)


def _padding(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda prompts, answers, batch_size: padding(prompts, answers, batch_size, **options)


def padding_cases(draw: random.Random) -> Iterator[Case]:
    """Yield requests: none, one, batches that come out even and ones that do not, larger than all requests, sorted or not."""
    for prompts, answers, batch_size in (
        ([], [], 2), ([8], [5], 4), ([8], [1], 1), ([3, 7, 5], [4, 1, 6], 3), ([6, 2, 9, 9], [1, 1, 1, 1], 2),
        ([10, 20, 30, 40, 50, 60, 70], [9, 2, 14, 1, 5, 30, 3], 3), ([4, 4], [3, 3], 2), ([1, 1, 1], [1, 1, 1], 2),
    ):  # fmt: skip
        yield {"prompts": prompts, "answers": answers, "batch_size": batch_size}
    while True:
        count, longest = draw.randrange(1, draw.choice((4, 8, 20, 90))), draw.choice((3, 12, 4000))
        yield {
            "prompts": [draw.randrange(1, longest + 1) for _ in range(count)],
            "answers": [draw.randrange(1, longest + 1) for _ in range(count)],
            "batch_size": draw.choice((1, 2, 3, 4, 8, count, count + 1)),
        }


def _needed(prompts: Sequence[int], answers: Sequence[int], batch_size: int) -> int:
    """Return the number of needed tokens."""
    return sum(prompts) + sum(answers) - len(prompts)


def _longest_text(prompts: Sequence[int], answers: Sequence[int], batch_size: int) -> int:
    """Let a batch be as long as its longest prompt with its own answer."""
    texts = [prompt + answer - 1 for prompt, answer in zip(prompts, answers, strict=True)]
    batches = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
    return sum(len(batch) * max(batch) - sum(batch) for batch in batches)


PADDING = Family(
    padding,
    padding_cases,
    (Part(mistakes={
        "That is all that is computed. How much of it is needed?": (_padding(needed=0), _padding(needed=0, passes=0)),
        "That is what is needed. What was asked for?": _needed,
        "Those who have finished keep their rows. What is computed there?": _padding(answer_max="none"),
        "Short prompts are padded. Is that counted?": _padding(prompt_max="none"),
        "Is everything padded to the longest of its own batch, not of all?": (
            _padding(prompt_max="all", answer_max="all"), _padding(prompt_max="all"), _padding(answer_max="all"),
        ),
        "The last batch may be smaller. How many rows has it?": _padding(full=True),
        "The last batch may be smaller. Is it counted at all?": _padding(drop=True),
        "An answer's last token is never sent in. Is it counted as needed?": _padding(last=0),
        "How many passes does an answer of one token need after its prompt's? Each request's first token comes with that.": (
            _padding(passes=0), _padding(passes=0, last=0),
        ),
        "The longest prompt and the longest answer need not be of one request. Is the longest whole text taken?": _longest_text,
        "The server takes requests in the order given. Were they sorted?": tuple(
            _padding(order=order) for order in ("pairs", "prompt", "answer", "total", "longest")
        ),
    }),),
    valid=lambda prompts, answers, batch_size: len(prompts) == len(answers) and batch_size >= 1 and all(
        n >= 1 for n in (*prompts, *answers)),
    together=("prompts", "answers"),
)  # fmt: skip
