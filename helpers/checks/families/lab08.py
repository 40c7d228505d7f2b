"""Lab 8, scheduling: jobs at one seat, queues that age, requests with a past, streams of short jobs."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong

Job = dict[str, Any]


# 1: the mean wait


def waits(seconds: Sequence[float]) -> list[float]:
    """Return how long each job waits."""
    found, before = list[float](), 0.0
    for one in seconds:
        found.append(before)
        before += one
    return found


def mean_wait(seconds: Sequence[float]) -> float:
    """The reference."""
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


# 2: who is first

Rule = Callable[[Job, float, float], Any]


def _moment(job: Job, now: float, ageing: float) -> float:
    """Return what orders those who wait."""
    return float(job["arrived"] + ageing * job["priority"])


def first(waiting: Sequence[Job], now: float, ageing: float) -> str:
    """The reference."""
    return _chosen(lambda j, n, a: (_moment(j, n, a), j["arrived"]))(waiting=waiting, now=now, ageing=ageing)


def _chosen(rule: Rule) -> Callable[..., str]:
    """Return an answer that takes the smallest by a rule; of equals, the first of the list."""

    def answer(waiting: Sequence[Job], now: float, ageing: float) -> str:
        name: str = min(waiting, key=lambda job: rule(job, now, ageing))["name"]
        return name

    return answer


def _ruled(rule: Rule) -> tuple[Wrong, ...]:
    """Return the answers that follow a wrong rule: of equals the first to come, or the first of the list."""
    return _chosen(lambda j, n, a: (rule(j, n, a), j["arrived"])), _chosen(lambda j, n, a: (rule(j, n, a),))


def first_cases(draw: random.Random) -> Iterator[Case]:
    """Yield queues: one request, equal moments, waits of seconds and of days, steps of priority that count much or little."""
    for jobs, now, ageing in (
        ([("a", 5, 1.0)], 2.0, 10.0), ([("c", 1, 4.0), ("a", 0, 8.0), ("b", 2, 0.0)], 9.0, 4.0),
        ([("a", 2, 0.0), ("b", 0, 9.0), ("c", 0, 12.0)], 13.0, 5.0), ([("a", 0, 3.0), ("b", 0, 2.0), ("c", 1, 1.0)], 4.0, 60.0),
        ([("a", 0, 0.0), ("b", 3, 1.0)], 2.0, 10.0), ([("a", 3, 0.0), ("b", 0, 2.0)], 40.0, 1.0),
        ([("a", 1, 0.25), ("b", 0, 0.625)], 0.75, 0.25), ([("b", 0, 2000.0), ("a", 1, 0.0)], 2500.0, 1024.0),
    ):  # fmt: skip
        waiting = [{"name": name, "priority": p, "arrived": at} for name, p, at in jobs]
        yield {"waiting": waiting, "now": now, "ageing": ageing}
    while True:
        case = _queue(draw)
        if is_queue(**case):
            yield case


def _queue(draw: random.Random) -> Case:
    """Return a queue, half of them in numbers whose sums are exact, where moments can be equal."""
    names = draw.sample("abcdefghij", draw.randrange(1, draw.choice((3, 6, 10))))
    exact, longest = draw.random() < 0.6, draw.choice((2, 8, 40, 300, 20_000))
    ageing = 2.0 ** draw.randrange(-2, 10) if exact else draw.uniform(0.1, 50)
    waiting = list[Job]()
    for name in names:
        at = draw.randrange(4 * longest + 1) / 4 if exact else draw.uniform(0, longest)
        if exact and waiting and draw.random() < 0.5:  # as urgent as another one, or nearly so
            other = draw.choice(waiting)
            priority = draw.randrange(4)
            at = (
                _moment(other, 0.0, ageing)
                - ageing * priority
                + draw.choice((0.0, 0.0, 0.25, -0.125, 1 / 512))
            )
        else:
            priority = draw.choice((0, 0, 1, 2, 3, draw.randrange(9)))
        if at >= 0:
            waiting.append({"name": name, "priority": priority, "arrived": at})
    now = max([job["arrived"] for job in waiting], default=0.0) + draw.choice((0.0, 0.25, 40.0))
    return {"waiting": waiting, "now": now, "ageing": ageing}


def is_queue(waiting: Sequence[Job], now: float, ageing: float) -> bool:
    """Return whether a queue has one first: no two alike, and no two so close that rounding decides."""
    if not waiting or ageing <= 0 or any(len(job) != 3 or not 0 <= job["arrived"] <= now for job in waiting):
        return False
    if any(job["priority"] < 0 for job in waiting) or len({job["name"] for job in waiting}) < len(waiting):
        return False
    keys = sorted((_moment(job, now, ageing), job["arrived"]) for job in waiting)
    exact = all(n * 1024 == int(n * 1024) for n in (now, ageing, *(job["arrived"] for job in waiting)))
    exact = exact and math.log2(ageing) % 1 == 0
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(keys)]
    return len({*keys}) == len(keys) and all(gap > 1e-6 or (exact and gap == 0) for gap in gaps)


def first_kind(got: Any, case: Case) -> tuple[str]:
    """Return the name. Raises CheckFailed when it is none of those who wait."""
    if got is None:
        raise CheckFailed("there is no name yet", case, got=got, hint="Is a return missing?")
    if not isinstance(got, str) or got not in [job["name"] for job in case["waiting"]]:
        raise CheckFailed("expected the name of a request that waits", case, got=describe(got))
    return (str(got),)


_ENDS = (1, 5, 10, 30, 60, 100, 120, 300, 600, 1000, 3600)
_PLACE = "Equals go by arrival. Does the place in the list decide?"
FIRST = Family(
    first,
    first_cases,
    (Part(broken="not the next one", mistakes={
        _PLACE: _chosen(_moment),
        "Priority alone. Where does the wait come in?": _chosen(lambda j, n, a: (j["priority"], j["arrived"])),
        "Priority alone, and of equals the first of the list. Does everybody age alike?": _chosen(lambda j, n, a: j["priority"]),
        "By arrival alone. What does priority change?": _ruled(lambda j, n, a: j["arrived"]),
        "Does a request that waits become more urgent? Does the wait make the number larger?": _ruled(lambda j, n, a: j["priority"] + (n - j["arrived"]) / a),
        "The smaller number is the more urgent one. Is it taken the other way round?": _ruled(lambda j, n, a: -j["priority"]),
        "Is the largest one taken in place of the smallest?": _ruled(lambda j, n, a: -_moment(j, n, a)),
        "A step of priority puts a request back, by `ageing` seconds. Does it put one forward?": _ruled(lambda j, n, a: j["arrived"] - a * j["priority"]),
        "`ageing` is seconds for a step. Is the wait divided by it, or multiplied?": _ruled(lambda j, n, a: j["priority"] - a * (n - j["arrived"])),
        "Does `ageing` count? A step of priority is worth that many seconds, not one.": _ruled(lambda j, n, a: j["arrived"] + j["priority"]),
        "Are steps cut to whole ones? Then the order of two who wait changes from one moment to the next.": (
            *_ruled(lambda j, n, a: j["priority"] - (n - j["arrived"]) // a), *_ruled(lambda j, n, a: j["priority"] - round((n - j["arrived"]) / a))),
        "Every second counts alike, and parts of a second too. Are moments rounded?": (
            *_ruled(lambda j, n, a: round(_moment(j, n, a))), *_ruled(lambda j, n, a: math.floor(_moment(j, n, a))),
            *_ruled(lambda j, n, a: round(_moment(j, n, a), 1)), *_ruled(lambda j, n, a: round(_moment(j, n, a), 2))),
        "Does urgency end at 0? Then all who have waited for long are equal.": _ruled(lambda j, n, a: max(0.0, j["priority"] - (n - j["arrived"]) / a)),
        "Does ageing end after some time? Every second of waiting counts, the last one too.": tuple(
            one for most in _ENDS for one in _ruled(lambda j, n, a, most=most: j["priority"] - min(n - j["arrived"], most) / a)),  # type: ignore[misc]
        "Equals go by arrival. Does the priority decide?": _chosen(lambda j, n, a: (_moment(j, n, a), j["priority"])),
        "Equals go by arrival. Is the last to come taken, or the first name?": (
            _chosen(lambda j, n, a: (_moment(j, n, a), -j["arrived"])), _chosen(lambda j, n, a: (_moment(j, n, a), j["name"]))),
        "The last to come is served first. Is that meant?": _ruled(lambda j, n, a: -j["arrived"]),
    }),),
    kind=first_kind,
    valid=is_queue,
    count=250,
)  # fmt: skip


# 3: passes


def passes(
    request: Job, ended: Sequence[Job], budget: int, *, mean: Callable[[Sequence[float]], float] = fmean,
    what: str = "answer", own: bool = True, unknown: Any = "cap", bounded: bool = True, known: bool = True,
    reading: Callable[[int, int], float] = lambda prompt, budget: -(-prompt // budget), start: int = -1, recent: int = 0,
) -> float:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
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
        "A mean need not be whole. Was it rounded?": tuple(
            _passes(mean=lambda n, cut=cut: cut(fmean(n))) for cut in (int, math.ceil, round)),
        "All answers of this client count. Is it the mean of the last few alone?": tuple(_passes(recent=n) for n in (2, 3, 4, 5, 8, 10, 16, 20, 32)),
    }),),
    valid=_is_past,
)  # fmt: skip


# 4: when the long one begins


def begins(
    free: float, short: float, long: float, gap: float, ageing: float | None = None, *,
    ahead: Callable[[float, float, float, float], bool] = lambda at, a, s, n: at + a * s < a * n,
    here: Callable[[float, float], bool] = lambda at, now: at <= now, most: float = math.inf, given_up: float = math.inf,
    rounds: float = math.inf, from_zero: bool = False,
) -> float:  # fmt: skip
    """The reference; with an option changed a wrong answer."""
    now, k = free, 0 if from_zero else 1
    endless = ageing is None or ahead is _ALWAYS
    while here(k * gap, now) and (ageing is None or ahead(k * gap, ageing, short, long)):
        if endless and short >= gap and k > 2:
            return math.inf
        if k >= most:
            return given_up if given_up == math.inf else now
        now, k = now + short, k + 1
    return now


def _always(at: float, a: float, s: float, n: float) -> bool:
    """Say that every short job goes first."""
    return True


_ALWAYS = _always


def _begins(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: begins(**case, **options)


def begin_cases(draw: random.Random) -> Iterator[Case]:
    """Yield streams, in numbers whose sums are exact: nothing there, a few, thousands, no end; all with ageing and without."""
    for free, short, long, gap, ageing in (
        (10.25, 0.5, 8.0, 1.0, None), (0.5, 2.0, 9.0, 1.0, None), (7.0, 1.5, 20.0, 1.5, None), (3.25, 3.0, 10.0, 1.0, None),
        (1.0, 0.25, 4.0, 1.0, None), (40.25, 0.5, 8.0, 1.0, 0.75), (7.25, 2.0, 10.0, 1.0, 1.5), (2.25, 2.0, 10.0, 1.0, 1.5),
        (10.25, 0.5, 4.0, 1.0, 8.0), (5.25, 2.0, 6.0, 1.0, 1.0), (500.0, 0.5, 9.0, 1.0, None), (2000.0, 0.75, 9.0, 1.0, None),
        (6000.0, 0.5, 4.0, 1.0, None), (0.25, 1.0, 2.0, 8.0, 4.0), (9.0, 2.0, 3.0, 1.0, 4096.0),
    ):  # fmt: skip
        yield {"free": free, "short": short, "long": long, "gap": gap, "ageing": ageing}
    while True:
        grid = draw.choice((1, 4, 64))
        short, gap = draw.randrange(1, 5 * grid) / grid, draw.randrange(1, 4 * grid) / grid
        long = short + draw.randrange(1, 12 * grid) / grid
        free = draw.choice((draw.randrange(1, 12 * grid), draw.randrange(1, 80 * grid))) / grid
        ageing = draw.choice((None, None, *(2.0**n for n in range(-3, 5))))
        jobs = (
            free / (gap - short) if ageing is None and gap > short else ageing * long / gap if ageing else 0
        )
        if jobs < 3000:
            yield {"free": free, "short": short, "long": long, "gap": gap, "ageing": ageing}


def _is_stream(free: float, short: float, long: float, gap: float, ageing: float | None) -> bool:
    """Return whether the numbers are above 0 and exact enough, and the long job is the longer one."""
    numbers = [free, short, long, gap, *([] if ageing is None else [ageing])]
    return short < long and all(n > 0 and n * 64 == int(n * 64) for n in numbers) and long < 100


def begin_facts(got: Any, right: float, case: Case) -> str:
    """Return what an answer of infinity, or one that should be infinite, overlooks."""
    if right == math.inf:
        return "When one is done, the next is there already. Does that end? Then the answer is math.inf."
    if got == math.inf:
        if case["ageing"] is not None:
            return "With ageing, those who come late enough do not overtake. Is there always an end?"
        if case["free"] < case["gap"]:
            return "Is any short one there when the seat becomes free?"
        return "Do the short ones come as fast as they are served? If not, there is a gap in the end."
    return ""


def begin_broken(got: Any, right: float, case: Case) -> str:
    """Return what is wrong."""
    if got == math.inf:
        return "it does begin"
    return "it never begins" if right == math.inf else "the value is wrong"


def _two_rounds(free: float, short: float, gap: float, **_: Any) -> float:
    """Serves those who were there, and no one who comes meanwhile."""
    return free + math.floor(free / gap) * short


BEGIN = Family(
    begins,
    begin_cases,
    (Part(broken=begin_broken, facts=begin_facts, mistakes={
        "Is ageing taken into account?": (_begins(ahead=_ALWAYS), lambda ageing=None, **case: begins(**case)),
        "A short one has a length, too, that puts it back. Is it counted?": _begins(ahead=lambda at, a, s, n: at < a * n),
        "`ageing` is in seconds of waiting for a second of length. Does it divide?": _begins(ahead=lambda at, a, s, n: at < (n - s) / a),
        "Of equals, the one that came first goes first. Which one is that?": _begins(ahead=lambda at, a, s, n: at + a * s <= a * n),
        "A job that comes at the very moment at which the seat becomes free is there. Does it wait?": _begins(here=lambda at, now: at < now),
        "Short ones have come before the seat is free. Do they go first?": lambda free, **_: free,
        "While those are served, others come. Do these go first, too?": _two_rounds,
        "That is when it ends. When does it begin?": lambda **case: begins(**case) + case["long"],
        "That is how long it waits behind the short ones. At which moment does it begin?": lambda **case: begins(**case) - case["free"],
        "The first short one comes at `gap`, not at 0. Is one too many served?": _begins(from_zero=True),
        "Short jobs come for ever. Are only so many of them looked at?": tuple(
            _begins(most=most, given_up=end) for most in (9, 10, 50, 99, 100, 999, 1000) for end in (math.inf, 0.0)),
    }),),
    valid=_is_stream,
)  # fmt: skip
