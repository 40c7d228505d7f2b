"""Exercise 3.4: answers with a cache and without, on any device."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from helpers.checks.machinery.core import require_finite
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong

Combine = Callable[[list[float]], float]


def one_pass(
    tokens: float, cached: float, num_params: float, kv_bytes: float, peak: float, bandwidth: float, *,
    combine: Combine = max, size: float = 2, ops: float = 2, of_all: bool = False,
) -> float:  # fmt: skip
    """Return the seconds of one pass; with one of the options changed wrong ones."""
    read = kv_bytes * (cached + tokens * of_all)
    return combine([ops * num_params * tokens / peak, (size * num_params + read) / bandwidth])


def times(
    prompt: int, new_tokens: int, *, more: int = 0, grows: bool = True, first: bool = True, steps: str = "each", start: int = 0,
    longest: str = "pass", **device: Any,
) -> tuple[float, float]:  # fmt: skip
    """Return the right `(without, with a cache)`; with one of the options changed, wrong ones."""
    count = new_tokens + more
    texts = [prompt + i * grows for i in range(count)]
    if longest == "once":
        without = max(
            sum(one_pass(t, 0, **device, combine=operator.itemgetter(side)) for t in texts) for side in (0, 1)
        )
    elif longest == "mean":
        without = count * one_pass(sum(texts) / max(1, count), 0, **device)
    else:
        without = sum(one_pass(t, 0, **device) for t in texts)
    cached = [prompt + start + i * (steps == "each") for i in range(count - 1)]
    if steps == "mean" and count > 1:
        cached = [prompt + (count - 2) / 2] * (count - 1)  # type: ignore[list-item]
    if steps == "none":
        cached = [0] * (count - 1)
    if steps == "last":
        cached = [prompt + count - 2] * (count - 1)
    rest = sum(one_pass(1, c, **device) for c in cached)
    return without, (one_pass(prompt, 0, **device) if first and count > 0 else 0.0) + rest


def _time(part: int, **options: Any) -> Wrong:
    """Return a wrong answer to one part."""
    return lambda **case: times(**case, **options)[part]


def _side(part: int, side: int) -> Wrong:
    """Return a wrong answer by computing, or by reading, alone."""
    return lambda **case: times(**case, combine=operator.itemgetter(side))[part]


def _steps_by(side: int) -> Wrong:
    """Return the prompt as it should be, and steps by computing, or by reading, alone."""

    def wrong(prompt: int, new_tokens: int, **device: Any) -> float:
        steps = (
            one_pass(1, prompt + i, **device, combine=operator.itemgetter(side))
            for i in range(new_tokens - 1)
        )
        return one_pass(prompt, 0, **device) + sum(steps)

    return wrong


def _prompt_by(side: int) -> Wrong:
    """Return the steps as they should be, and the prompt by computing, or by reading, alone."""

    def wrong(prompt: int, new_tokens: int, **device: Any) -> float:
        steps = (one_pass(1, prompt + i, **device) for i in range(new_tokens - 1))
        return one_pass(prompt, 0, **device, combine=operator.itemgetter(side)) + sum(steps)

    return wrong


def _prompt_read(prompt: int, new_tokens: int, **device: Any) -> float:
    """Count the prompt as cached in its own pass."""
    right, pass_ = times(prompt, new_tokens, **device)[1], one_pass(prompt, 0, **device)
    return right - pass_ + one_pass(prompt, prompt, **device)


def _by_ridge(prompt: int, new_tokens: int, *, peak: float, bandwidth: float, **device: Any) -> float:
    """Choose the side by the number of tokens alone."""

    def side(tokens: int, cached: int) -> float:
        chosen = operator.itemgetter(0 if tokens > peak / bandwidth else 1)
        return one_pass(tokens, cached, peak=peak, bandwidth=bandwidth, combine=chosen, **device)

    return side(prompt, 0) + sum(side(1, prompt + i) for i in range(new_tokens - 1))


def times_cases(draw: random.Random) -> Iterator[Case]:
    """Yield answers of one token and of many, texts that grow over the ridge, steps that go from computing to reading."""
    for prompt, new, peak in (
        (2000, 30, 3e14),
        (20, 10, 3e14),
        (500, 1, 3e12),
        (300, 5, 3e12),
        (180, 20, 3e14),
        (50, 5, 1e12),
        (1, 2, 1e15),
    ):
        yield dict(
            num_params=7_000_000_000,
            kv_bytes=131_072,
            prompt=prompt,
            new_tokens=new,
            peak=peak,
            bandwidth=1.6e12,
        )
    while True:
        params, kv = draw.randrange(10**6, 10**10), draw.choice((0, 1000, 131_072, 3 * 10**6))
        prompt, new = (
            draw.choice((1, draw.randrange(1, 60), draw.randrange(1, 3000))),
            draw.choice((1, 2, 3, draw.randrange(1, 60))),
        )
        bandwidth = draw.uniform(2e11, 4e12)
        # one in three: a single token's step goes from bound by computing to bound by reading
        ridge = draw.choice((prompt + new / 2, 0.0, draw.uniform(1, 400)))
        tokens = draw.choice((1.0, max(1.0, prompt + new / 2)))
        peak = 2 * params * tokens * bandwidth / (2 * params + kv * (ridge if tokens == 1 else 0.0))
        yield dict(num_params=params, kv_bytes=kv, prompt=prompt, new_tokens=new, peak=peak * draw.choice((1.0, 1.0, 30.0)), bandwidth=bandwidth)  # fmt: skip


def times_kind(got: Any, case: Case) -> tuple[Any, Any]:
    """Return the two numbers. Raises CheckFailed when they are none."""
    got = got.tolist() if isinstance(got, Tensor) and got.ndim == 1 else got
    if not isinstance(got, tuple | list) or len(got) != 2:
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed(
            "expected two numbers, without and with a cache", case, got=describe(got), hint=hint
        )
    without, cached = (
        require_finite(value, {"value": name, **case})
        for value, name in zip(got, ("without", "with"), strict=True)
    )
    return without, cached


_UNIT = "Seconds are asked for. Is that another unit?"
_PASSES = "The last token is chosen and never sent in. How many passes are there?"
_SIZE = "How many bytes has a 16-bit weight?"
_ADD = "Reading and computing happen at the same time. Do their times add up?"
_MULTIPLY = "A multiply-add is two operations. Are both counted?"
TIMES = Family(
    times,
    times_cases,
    (
        Part("without", mistakes={
            "Are the two in order? Without a cache comes first.": _time(1),
            _PASSES: (_time(0, more=1), _time(0, more=-1)),
            _ADD: _time(0, combine=sum),
            _MULTIPLY: _time(0, ops=1),
            "Is the longer side chosen for each pass, or once for all?": (_time(0, longest="once"), _time(0, longest="mean")),
            _SIZE: (_time(0, size=1), _time(0, size=4)),
            "The longer of two times, or the shorter?": _time(0, combine=min),
            "Is one side left out? A pass may be bound by computing, or by reading.": (_side(0, 0), _side(0, 1)),
            "Without a cache each pass computes the whole text. Does it grow?": _time(0, grows=False),
            "Without a cache nothing cached is read. Is it counted?": _time(0, of_all=True),
            _UNIT: tuple(lambda many=many, **case: many * times(**case)[0] for many in (1e3, 1e6)),
        }),
        Part("with", mistakes={
            "The first pass computes the prompt. How many tokens do the others compute?": _time(0),
            _PASSES: (_time(1, more=1), _time(1, more=-1)),
            "A decode step reads the cached tokens, too. Are they counted?": _time(1, steps="none"),
            "Does each step read one cached token more than the one before?": tuple(
                _time(1, steps=steps) for steps in ("same", "last")),
            "Is the longer side chosen for each step, or for a mean one?": _time(1, steps="mean"),
            "How many cached tokens does the first step read? The prompt's, and not the new one's.": (_time(1, start=1), _time(1, start=-1)),
            _SIZE: (_time(1, size=1), _time(1, size=4)),
            _ADD: _time(1, combine=sum),
            _MULTIPLY: _time(1, ops=1),
            "The longer of two times, or the shorter?": _time(1, combine=min),
            "Can a single token be bound by computing?": (_steps_by(1), _steps_by(0)),
            "Is one side left out? A pass may be bound by computing, or by reading.": (_side(1, 0), _side(1, 1), _prompt_by(0), _prompt_by(1)),
            "The prompt must be computed, too. Is the first pass in it?": _time(1, first=False),
            "A single token needs the prompt's pass, too. Is there an exception for it?": (
                lambda **case: times(**case)[1] if case["new_tokens"] > 1 else 0.0),
            "`kv_bytes` are those of a token's keys and values together. Are they counted twice, or by half?": tuple(
                lambda many=many, **case: times(**{**case, "kv_bytes": many * case["kv_bytes"]})[1] for many in (2, 0.5)),
            "A pass reads what is cached before it. Are its own new tokens counted, too?": (_time(1, of_all=True), _prompt_read),
            "A cache may lose. Is the smaller of the two times returned?": lambda **case: min(times(**case)),
            "Which of the two times is longer is decided by the bytes of the cache, too. Is the ridge of the weights alone taken?": _by_ridge,
            _UNIT: tuple(lambda many=many, **case: many * times(**case)[1] for many in (1e3, 1e6)),
        }),
    ),
    kind=times_kind,
    count=150,
)  # fmt: skip
