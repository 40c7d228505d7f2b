"""Exercise 2.2: engines to measure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.checks.machinery.core import require_finite
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.pretend import PretendEngine
from helpers.checks.machinery.values import equal, plain


def profile(
    engine: PretendEngine, prompt: Sequence[int], max_new_tokens: int, *, warm: str = "both", patient: bool = True,
    clock: str = "clock", waits: bool = True, loop: str = "next", begin: bool = True, late: bool = False,
    mean: str = "mean", more: int = 0, drop: bool = False,
) -> tuple[list[int], float, float]:  # fmt: skip
    """Return the right `(tokens, ttft, tpot)`; with one of the options changed, wrong ones."""
    read, wait = getattr(engine, clock), engine.wait if waits else lambda: None
    token = 0
    if warm == "short":
        engine.next(engine.start([1]))
    elif warm != "none":
        token = engine.start(prompt)
        token = engine.next(token) if warm == "both" else token
        if patient:
            engine.wait()
    times = [read()]
    tokens = [engine.start(prompt) if begin else engine.next(token)]
    if not late:
        wait()
        times.append(read())
    while len(tokens) < max_new_tokens + more:
        tokens.append(engine.start(tokens[-1:]) if loop == "start" else engine.next(tokens[-1]))
        wait()
        times.append(read())
    if len(times) == 1:
        wait()
        times.append(read())
    first = times[1] - times[0]
    steps = [b - a for a, b in itertools.pairwise(times[1:])]
    count = max(1, len(steps))
    tpot = {
        "mean": sum(steps) / count, "sum": sum(steps), "last": steps[-1] if steps else 0.0, "first": steps[0] if steps else 0.0,
        "shortest": min(steps, default=0.0), "longest": max(steps, default=0.0),
        "tokens": sum(steps) / max_new_tokens, "prefill": (first + sum(steps)) / max_new_tokens if steps else 0.0,
        "middle": sorted(steps)[len(steps) // 2] if steps else 0.0, "all": (first + sum(steps)) / count if steps else 0.0,
        "prefill always": (first + sum(steps)) / max_new_tokens,
    }[mean]  # fmt: skip
    return tokens[1:] if drop else tokens, first, tpot


def _profile(part: int, **options: Any) -> Wrong:
    """Return a wrong answer to one part."""
    return lambda **case: profile(**case, **options)[part]


def profile_cases(draw: random.Random) -> Iterator[Case]:
    """Yield engines whose decode steps become longer, and prompts and answers of any length, one token included."""
    for prefill, decode, growth, length, count in (
        (0.4, 0.02, 0.1, 150, 12), (0.05, 0.03, 0.0, 20, 5), (1.0, 0.01, 0.1, 80, 1), (0.3, 0.05, 0.2, 40, 2), (0.3, 0.05, 0.2, 1, 3),
    ):  # fmt: skip
        prompt = [(7 * i) % 100 for i in range(length)]
        yield {
            "engine": PretendEngine(prefill, decode, growth=growth),
            "prompt": prompt,
            "max_new_tokens": count,
        }
    while True:
        engine = PretendEngine(
            draw.choice((0.05, 0.4, 2.0)),
            draw.choice((0.005, 0.02, 0.3)),
            growth=draw.choice((0.0, 0.05, 0.3)),
            readings=draw.randrange(3),
        )
        prompt = [draw.randrange(1000) for _ in range(draw.randrange(1, draw.choice((4, 60))))]
        yield {
            "engine": engine,
            "prompt": prompt,
            "max_new_tokens": draw.choice((1, 2, 3, draw.randrange(1, 16))),
        }


def profile_kind(got: Any, case: Case) -> tuple[list[Any], Any, Any]:
    """Return the three parts. Raises CheckFailed when the result is no mapping with them."""
    given = profile_shown(case)
    if got is None:
        raise CheckFailed("there is no result", given, got=got, hint="Is a return missing?")
    if not isinstance(got, Mapping) or not {"ttft", "tpot", "tokens"} <= set(got):
        raise CheckFailed("expected a dict with ttft, tpot and tokens", given, got=describe(got))
    if not isinstance(got["tokens"], list | tuple):
        raise CheckFailed("tokens is not a list", given, got=describe(got["tokens"]))
    if got["tpot"] is None and case["max_new_tokens"] == 1:
        raise CheckFailed(
            "tpot: expected 0.0, got None", given,
            hint="One token comes from the prefill, and no step follows. What does the docstring ask for then?",
        )  # fmt: skip
    times = [require_finite(got[name], {"value": name, **given}) for name in ("ttft", "tpot")]
    return plain(list(got["tokens"])), times[0], times[1]


def profile_shown(case: Case) -> dict[str, Any]:
    """Return what matters of a case."""
    return {"prompt tokens": len(case["prompt"]), "max_new_tokens": case["max_new_tokens"]}


def tokens_facts(tokens: list[Any], right: list[int], case: Case) -> str:
    """Return what the number of tokens tells."""
    if tokens[-len(right) :] == right and len(tokens) > len(right):
        return "New tokens alone are asked for. Are those of the prompt among them?"
    if tokens == right[1:]:
        return "The first token is missing. Which pass gives it?"
    if tokens[: len(right)] == right:
        return f"That is {len(tokens)} tokens. How many does the prefill give, how many the loop?"
    if right[: len(tokens)] == tokens:
        return f"That is only {len(tokens)} tokens. Does the loop end too early?"
    return (
        "Does the request begin with start, after the warm-up? Does each step get the token that came last?"
    )


def time_facts(got: Any, right: float, case: Case) -> str:
    """Return what an impossible time tells."""
    if got < 0:
        return "One of the engine's clocks can be set back. Which one cannot?"
    if _near(got, 1000 * right) or _near(got, 1e6 * right):
        return "Seconds are asked for. Is that another unit?"
    if 2e-6 < got < 1e-3:
        return "The engine has clocks of its own. Was one of them read?"
    return ""


def _near(one: Any, other: Any) -> bool:
    """Return whether two times are the same to a hundredth."""
    return equal(one, other, rel=0.01)


_ORDERED = "That is the time of the order, not of the work. Does the code wait for the device?"
_CLOCK = "One of the engine's clocks can be set back. Which one cannot?"
_PREFILL = "Is the prefill in it? TPOT is the mean over the tokens after the first."
PROFILE = Family(
    profile,
    profile_cases,
    (
        Part("tokens", broken="not those of the request", facts=tokens_facts, mistakes={
            "From the second token on, the answer ignores the prompt. Does the loop begin new requests?": (
                _profile(0, loop="start"), _profile(0, loop="start", drop=True), _profile(0, loop="start", drop=True, more=1)),
        }),
        Part("ttft", same=_near, facts=time_facts, mistakes={
            _ORDERED: _profile(1, waits=False),
            "The engine's first prefill ever is slow. Was there one before that did not count?": (
                _profile(1, warm="none"), _profile(1, warm="none", late=True)),
            "Is a decode step in it? The first token comes from the prefill.": _profile(1, late=True),
            "Was the warm-up done when the clock was first read?": (
                _profile(1, patient=False), _profile(1, warm="prefill", patient=False), _profile(1, warm="short", patient=False)),
            _CLOCK: _profile(1, clock="calendar"),
        }),
        Part("tpot", same=_near, facts=time_facts, mistakes={
            "The engine's first decode step ever is slow. Does the warm-up have one?": (_profile(2, warm="prefill"), _profile(2, warm="none")),
            _ORDERED: _profile(2, waits=False),
            _PREFILL: (_profile(2, mean="prefill"), _profile(2, mean="all"), _profile(2, mean="prefill always")),
            "How many steps give how many tokens? The first token is not theirs.": _profile(2, mean="tokens"),
            "Is that the sum of all steps? TPOT is the mean.": _profile(2, mean="sum"),
            "Steps need not take equally long. Is it the mean of all of them, or the time of one?": tuple(
                _profile(2, mean=mean) for mean in ("last", "first", "middle", "shortest", "longest")),
            _CLOCK: _profile(2, clock="calendar"),
        }),
    ),
    kind=profile_kind,
    spent=("engine",),
    shown=profile_shown,
    count=80,
)  # fmt: skip
