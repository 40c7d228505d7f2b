"""Checks of lab 8, scheduling."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable, require_number
from helpers.checks.machinery.limit import attempt
from helpers.checks.machinery.rush import (
    PROMISES,
    RUSHES,
    SHARE,
    Job,
    Learning,
    kept,
    letters,
    one_seat,
    promises,
    serve,
)
from helpers.engine.policy import Policy
from helpers.engine.request import Request, RequestState

__all__ = ["LAB", "Learning", "check_begin", "check_both", "check_first", "check_passes", "check_wait", "letters",
           "one_seat", "promises", "serve"]  # fmt: skip
LAB = "08_scheduling"
Function = Callable[..., Any]


@exercise(LAB, 1, "predict the wait")
def check_wait(answer: Function) -> None:
    """`answer(seconds)` -> the mean wait of jobs that are served one by one."""
    require_callable(answer)
    for seconds in ([5.0, 1.0, 3.0, 9.0], [2.0, 6.0], [4.0], [1.0, 1.0, 1.0], [9.0, 0.5, 0.25, 0.25]):
        given = {"seconds": seconds}
        require_number(attempt(answer, **given), _mean_wait(seconds), given, mistakes=_wait_mistakes(seconds))


def _waits(seconds: Sequence[float]) -> list[float]:
    """How long each of them waits."""
    return [sum(seconds[:i]) for i in range(len(seconds))]


def _mean_wait(seconds: Sequence[float]) -> float:
    """The reference."""
    return fmean(_waits(seconds))


def _wait_mistakes(seconds: Sequence[float]) -> dict[str, float]:
    """Wrong values by the question that explains them."""
    waits, count = _waits(seconds), len(seconds)
    mistakes = {
        "Is a job's own time a part of its wait?": fmean(waits) + fmean(seconds),
        "That is the sum of all waits. What is the mean?": sum(waits),
        "The first one waits for 0 seconds. Does it count as one of them?": sum(waits) / max(1, count - 1),
        "Does one wait for the job before alone, or for all before it?": sum(seconds[:-1]) / count,
        "That is the last one's wait. What is the mean of all?": waits[-1],
        "That is the mean length. How long do they wait?": fmean(seconds),
        "They are served in the order given. Were they sorted?": _mean_wait(sorted(seconds)),
        "Is the first of the list served last?": _mean_wait(seconds[::-1]),
    }
    return {words: value for words, value in mistakes.items() if value != _mean_wait(seconds)}


@exercise(LAB, 2, "mend the ageing")
def check_first(answer: Function) -> None:
    """`answer(waiting, now, ageing)` -> the name of the next one."""
    require_callable(answer)
    tried: list[tuple[dict[str, Any], str]] = []
    for jobs, now, ageing in _QUEUES:
        waiting = [{"name": name, "priority": p, "arrived": at} for name, p, at in jobs]
        given: dict[str, Any] = {"waiting": waiting, "now": now, "ageing": ageing}
        got = attempt(answer, **given)
        if got is None:
            raise CheckFailed("there is no name yet", given, got=got, hint="Is a return missing?")
        if not isinstance(got, str) or got not in [job["name"] for job in waiting]:
            raise CheckFailed("expected the name of one who waits", given, got=describe(got))
        tried.append((given, got))
    for given, got in tried:
        if got != (right := _first(_by_age, **given)):
            alike = (words for words, rule in _RULES.items() if all(_first(rule, **g) == n for g, n in tried))
            raise CheckFailed("not the next one", given, expected=right, got=got, hint=next(alike, ""))


_QUEUES: tuple[tuple[list[tuple[str, int, float]], float, float], ...] = (
    ([("a", 2, 0.0), ("b", 0, 9.0), ("c", 0, 12.0)], 13.0, 5.0),  # 10, 9, 12
    ([("a", 2, 0.0), ("b", 0, 11.0), ("c", 1, 6.5)], 13.0, 5.0),  # 10, 11, 11.5
    ([("a", 0, 3.0), ("b", 0, 2.0), ("c", 1, 1.0)], 4.0, 60.0),  # two of a priority, in the wrong order
    ([("c", 1, 4.0), ("a", 0, 8.0), ("b", 2, 0.0)], 9.0, 4.0),  # all equal: 8
    ([("a", 0, 0.0), ("b", 3, 1.0)], 2.0, 10.0),  # 0, 31
    ([("a", 0, 0.0), ("b", 1, 20.0)], 21.0, 5.0),  # 0, 25
    ([("a", 1, 3.5), ("b", 1, 0.5), ("c", 0, 4.0)], 9.0, 2.0),  # 5.5, 2.5, 4
    ([("a", 3, 0.0), ("b", 0, 2.0)], 40.0, 1.0),  # 3, 2: both have waited for many steps
    ([("a", 1, 7.0), ("b", 2, 2.0), ("c", 0, 10.5)], 11.0, 3.0),  # 10, 8, 10.5
    ([("a", 1, 0.2), ("b", 0, 0.6)], 0.7, 0.3),  # 0.5, 0.6
    ([("a", 5, 1.0)], 2.0, 10.0),
)
Rule = Callable[[Job, float, float], tuple[Any, ...]]


def _first(rule: Rule, waiting: Sequence[Job], now: float, ageing: float) -> str:
    """The name of the smallest by a rule; of equals, the first of the list."""
    name: str = min(waiting, key=lambda job: rule(job, now, ageing))["name"]
    return name


def _by_age(job: Job, now: float, ageing: float) -> tuple[Any, ...]:
    """The reference, rounded so that a tie is one."""
    return (round(job["arrived"] + ageing * job["priority"], 9), job["arrived"])


_RULES: dict[str, Rule] = {
    "Priority alone. Where does the wait come in?": lambda j, now, a: (j["priority"], j["arrived"]),
    "Priority alone, and of equals the first of the list. Does everybody age alike?": (
        lambda j, now, a: (j["priority"],)
    ),
    "By arrival alone. What does priority change?": lambda j, now, a: (j["arrived"],),
    "Who waits becomes more urgent. Does the wait make the number larger?": (
        lambda j, now, a: (j["priority"] + (now - j["arrived"]) / a, j["arrived"])
    ),
    "The smaller number is the more urgent one. Is it taken the other way round?": (
        lambda j, now, a: (-j["priority"], j["arrived"])
    ),
    "Is the largest one taken in place of the smallest?": (
        lambda j, now, a: (-round(j["arrived"] + a * j["priority"], 9),)
    ),
    "A step of priority puts one back, by `ageing` seconds. Does it put one forward?": (
        lambda j, now, a: (j["arrived"] - a * j["priority"], j["arrived"])
    ),
    "`ageing` is seconds for a step. Is the wait divided by it, or multiplied?": (
        lambda j, now, a: (round(j["priority"] - a * (now - j["arrived"]), 9), j["arrived"])
    ),
    "Are steps cut to whole ones? Then the order of two who wait changes from one moment to the next.": (
        lambda j, now, a: (j["priority"] - (now - j["arrived"]) // a, j["arrived"])
    ),
    "Does urgency end at 0? Then all who have waited for long are equal.": (
        lambda j, now, a: (max(0.0, j["priority"] - (now - j["arrived"]) / a), j["arrived"])
    ),
    "Equals go by arrival. Does the place in the list decide?": (
        lambda j, now, a: (round(j["arrived"] + a * j["priority"], 9),)
    ),
    "Equals go by arrival. Does the priority decide?": (
        lambda j, now, a: (round(j["arrived"] + a * j["priority"], 9), j["priority"])
    ),
    "Who came last is served first. Is that meant?": lambda j, now, a: (-j["arrived"],),
}


@exercise(LAB, 3, "predict the length")
def check_passes(answer: Function) -> None:
    """`answer(request, ended, budget)` -> passes that the request will take."""
    require_callable(answer)
    seen = [("a", 20), ("b", 205), ("a", 90), ("a", 31), ("b", 180), ("a", 39), ("c", 22), ("c", 23)]
    for client, prompt, cap, known, budget in (
        ("a", 1300, 300, 8, 512),  # tells most mistakes apart
        ("b", 100, 250, 8, 512),
        ("a", 600, 30, 8, 256),
        ("d", 1024, 120, 8, 512),
        ("b", 512, 64, 0, 512),
        ("c", 1025, 100, 8, 512),
        ("a", 10, 400, 1, 64),
    ):
        request: Job = {"client": client, "prompt": prompt, "cap": cap}
        ended = [
            {"client": c, "prompt": 50 + n, "cap": 350 + n, "answer": length}
            for n, (c, length) in enumerate(seen[:known])
        ]
        given: dict[str, Any] = {"request": request, "ended": ended, "budget": budget}
        right = _passes(request, ended, budget)
        mistakes = {
            words: tuple(value for value in values if value != right)
            for words, values in _passes_mistakes(request, ended, budget).items()
        }
        require_number(attempt(answer, **given), right, given, mistakes=mistakes)


def _guess(
    request: Job, ended: Sequence[Job], mean: Callable[[Sequence[float]], float] = fmean, what: str = "answer",
    everybody: bool = False, unknown: float | None = None, bounded: bool = True,
) -> float:  # fmt: skip
    """The reference for an answer's length; with one of the options changed, a wrong one."""
    lengths = [e[what] for e in ended if everybody or e["client"] == request["client"]]
    cap: float = request["cap"]
    likely = mean(lengths) if lengths else cap if unknown is None else unknown
    return min(likely, cap) if bounded else likely


def _passes(request: Job, ended: Sequence[Job], budget: int, **options: Any) -> float:
    """The reference."""
    prompt: int = request["prompt"]
    return math.ceil(prompt / budget) + _guess(request, ended, **options) - 1


def _passes_mistakes(request: Job, ended: Sequence[Job], budget: int) -> dict[str, tuple[float, ...]]:
    """Wrong values by the question that explains them."""

    def other(**options: Any) -> float:
        return _passes(request, ended, budget, **options)

    right, prompt, answer = other(), request["prompt"], _guess(request, ended)
    return {
        "That is the prompt's length. How many passes is it, and how many come after?": (prompt,),
        "A pass computes up to `budget` tokens of a prompt. Do they count one by one?": (
            prompt + answer - 1, prompt + answer,
        ),
        "The prompt's last pass gives the first token of the answer. Is a pass counted twice?": (right + 1,),
        "Does the prompt take passes, too?": (answer, answer - 1),
        "Is the prompt's last pass a whole one, be it full or not?": (
            prompt // budget + answer - 1, prompt / budget + answer - 1, prompt // budget + answer,
        ),
        "Of this client nobody has ended yet. What is known about the answer is what the request allows.": (
            other(unknown=0), other(unknown=1), other(unknown=fmean([0.0, *(e["answer"] for e in ended)])),
            *((other(everybody=True),) if not any(e["client"] == request["client"] for e in ended) else ()),
        ),
        "Does each client have a mean of its own?": (other(everybody=True),),
        "Can an answer be longer than the request allows?": (other(bounded=False),),
        "That is what the request allows. What have this client's answers been like?": (
            math.ceil(prompt / budget) + request["cap"] - 1,
        ),
        "That is what ended requests allowed. How long were their answers?": (other(what="cap", bounded=False),),
        "Is it the mean, or the median?": (other(mean=median),),
        "Is it the mean, or the last one?": (other(mean=lambda lengths: lengths[-1]),),
        "Is it the mean, or the longest one?": (other(mean=max),),
        "A mean need not be whole. Was it rounded?": (other(mean=lambda n: int(fmean(n))), other(mean=lambda n: math.ceil(fmean(n)))),
    }  # fmt: skip


@exercise(LAB, 4, "when does the long one begin?")
def check_begin(answer: Function) -> None:
    """`answer(free, short, long, gap, ageing)` -> the moment at which the long job begins, or infinity."""
    require_callable(answer)
    for free, short, long, gap, ageing in (
        (10.25, 0.5, 8.0, 1.0, None),
        (0.5, 2.0, 9.0, 1.0, None),
        (7.0, 1.5, 20.0, 1.5, None),
        (3.25, 3.0, 10.0, 1.0, None),
        (1.0, 0.25, 4.0, 1.0, None),  # somebody comes at the very moment
        (40.25, 0.5, 8.0, 1.0, 0.75),
        (7.25, 2.0, 10.0, 1.0, 1.5),
        (2.25, 2.0, 10.0, 1.0, 1.5),
        (10.25, 0.5, 4.0, 1.0, 8.0),  # ageing hardly matters
        (5.25, 2.0, 6.0, 1.0, 1.0),  # an equal one, who came later
    ):
        given: dict[str, Any] = {"free": free, "short": short, "long": long, "gap": gap, "ageing": ageing}
        _require_moment(attempt(answer, **given), given)


def _begin(
    free: float, short: float, long: float, gap: float, ageing: float | None = None, *,
    ahead: Callable[[float, float, float, float], bool] = lambda at, a, s, n: at + a * s < a * n,
    here: Callable[[float, float], bool] = lambda at, now: at <= now,
) -> float:  # fmt: skip
    """The reference, job by job; infinity after a thousand jobs. With an option changed, a wrong one."""
    now = free
    for k in range(1, 1000):
        if not here(k * gap, now) or not (ageing is None or ahead(k * gap, ageing, short, long)):
            return now
        now += short
    return math.inf


def _require_moment(got: Any, given: Mapping[str, Any]) -> None:
    """CheckFailed unless `got` is when the long job begins."""
    right, number = _begin(**given), isinstance(got, int | float) and not isinstance(got, bool)
    if number and got == math.inf:
        if right == math.inf:
            return
        hint = "Do the short ones come as fast as they are served? If not, there is a gap in the end."
        if given["free"] < given["gap"]:
            hint = "Is any short one there when the seat becomes free?"
        if given["ageing"] is not None:
            hint = "With ageing, those who come late enough do not overtake. Is there always an end?"
        raise CheckFailed("it does begin", given, expected=f"{right:,}", got=describe(got), hint=hint)
    if number and right == math.inf:
        hint = "When one is done, the next is there already. Does that end? Then the answer is math.inf."
        raise CheckFailed("it never begins", given, expected="inf", got=describe(got), hint=hint)
    require_number(
        got, right, given, mistakes={w: v for w, v in _begin_mistakes(given).items() if v != right}
    )


def _begin_mistakes(given: Mapping[str, Any]) -> dict[str, float]:
    """Wrong moments by the question that explains them."""
    free, short, gap, ageing = (given[name] for name in ("free", "short", "gap", "ageing"))
    arrived = math.floor(free / gap)
    mistakes = {
        "Who comes at the very moment at which the seat becomes free is there. Does it wait?": _begin(
            **given, here=lambda at, now: at < now
        ),
        "Short ones have come before the seat is free. Do they go first?": free,
        "While those are served, others come. Do these go first, too?": free + arrived * short,
        "That is when it ends. When does it begin?": _begin(**given) + given["long"],
        "That is how long it waits behind the short ones. At which moment does it begin?": _begin(**given)
        - free,
    }
    if ageing is None:
        return mistakes
    rules: dict[str, Callable[[float, float, float, float], bool]] = {
        "Is ageing taken into account?": lambda at, a, s, n: True,
        "A short one has a length, too, that puts it back. Is it counted?": lambda at, a, s, n: at < a * n,
        "`ageing` is in seconds of waiting for a second of length. Does it divide?": lambda at, a, s, n: at < (n - s) / a,
        "Of equals, who came first goes first. Who is that?": lambda at, a, s, n: at + a * s <= a * n,
    }  # fmt: skip
    aged = {words: _begin(**given, ahead=rule) for words, rule in rules.items()}
    return {**aged, **mistakes}


@exercise(LAB, 5, "keep two promises")
def check_both(answer: Callable[[], Policy]) -> None:
    """`answer()` -> a policy that keeps both promises in two rushes."""
    require_callable(answer)
    _require_steady(answer)
    for trace in RUSHES:
        report = attempt(lambda trace=trace: serve(trace, answer))
        if len(report.outcomes) != len(trace):
            raise CheckFailed(f"{len(trace)} requests came, {len(report.outcomes)} were served")
        shares = kept(report)
        if min(shares.values()) < SHARE:
            found = ", ".join(f"{share:.0%} of the {client}s" for client, share in shares.items())
            wanted = ", ".join(f"{client}s within {seconds:g} s" for client, seconds in PROMISES.items())
            raise CheckFailed(
                f"not both promises are kept: {wanted}, for {SHARE:.0%} of each",
                {"requests": len(trace)}, expected=f"{SHARE:.0%} of each or more", got=found,
                hint=_why_late(shares, answer()),
            )  # fmt: skip


def _why_late(shares: Mapping[str, float], policy: Policy) -> str:
    """A question about a policy that does not keep both."""
    if policy.rank(_came("chat", 3.0)) > policy.rank(_came("chat", 30.0)):
        return "Of two chats, the one that came later goes first. Is the smaller rank the more urgent one?"
    if shares["document"] >= SHARE:
        return "Chats are late. Does a document that could wait for longer go before a chat that cannot?"
    if shares["chat"] >= SHARE:
        return "Documents are late. When does one that waited for 9 seconds go before a new chat?"
    return "Both are late. How long can each still wait?"


def _came(client: str, arrived: float) -> RequestState:
    """Somebody who waits."""
    request = Request(0, [1] * 30, 50, client=client, priority=list(PROMISES).index(client))
    return RequestState(request, arrived, order=1)


def _require_steady(answer: Callable[[], Policy]) -> None:
    """CheckFailed unless it makes policies whose ranks are numbers that stay."""
    policy = attempt(lambda: answer())
    if not isinstance(policy, Policy):
        raise CheckFailed(
            "expected a class made from Policy", got=describe(policy), hint="Is it class ...(Policy)?"
        )
    for client in PROMISES:
        state = _came(client, 3.0)
        ranks = [attempt(lambda state=state: policy.rank(state)) for _ in "ab"]
        given = {"state": f"a {client} that came at 3.0"}
        if ranks[0] is None:
            raise CheckFailed("rank gives nothing", given, got=None, hint="Is a return missing?")
        if not isinstance(ranks[0], numbers.Real):
            raise CheckFailed("expected a rank that is a number", given, got=describe(ranks[0]))
        if ranks[0] != ranks[1]:
            raise CheckFailed(
                "the rank changes while the request waits", given, got=f"{ranks[0]}, then {ranks[1]}",
                hint="The queue is sorted once. Can the rank be a moment, which stays?",
            )  # fmt: skip
