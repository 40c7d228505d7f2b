"""Exercise 5.3: queues under a budget."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Request = dict[str, Any]
Pass = list[tuple[str, int]]


def plan(
    running: Sequence[Request], waiting: Sequence[Request], token_budget: int, chunk_size: int, seats: int,
    free_pages: int, page_size: int, *, zero: bool = False, chunked: str = "both", budget: str = "shared", seated: str = "yes",
    pages: Callable[[float], int] = math.ceil, taken: bool = True, size: str = "whole", overtake: bool = False,
    waiting_first: bool = False, memory: str = "waiting", lacks: bool = True, first_only: bool = False, equal: bool = False,
    whole_chunk: bool = False, spare: int = 0,
) -> Pass:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    planned, left, used = Pass(), token_budget, len(running) if seated != "waiting" else 0

    def give(r: Request, counts: bool, chunk: bool) -> int:
        most = [left] + [chunk_size] * chunk + [r["length"] - r["computed"]] * lacks
        count = max(0, min(most)) if lacks or chunk else left
        if whole_chunk and count < min(chunk_size, r["length"] - r["computed"]):
            return 0
        if count or zero:
            planned.append((r["name"], count))
        return count if counts else 0

    def admit() -> int:
        budget_left, free, seat = left, free_pages, used
        for r in waiting:
            text = {"whole": r["length"], "lacks": r["length"] - r["computed"], "done": r["computed"],
                    "chunk": min(r["length"], chunk_size),
                    "count": min(r["length"] - r["computed"], chunk_size, budget_left)}[size]  # fmt: skip
            need = pages(text / page_size)
            full = seated != "never" and (seat > seats if seated == "more" else seat >= seats)
            if budget_left <= 0 or full:
                break
            if memory != "none" and (need >= free if equal else need > free):
                if overtake:
                    continue
                break
            free -= need if taken else 0
            seat += 1
            before = len(planned)
            most = [budget_left, r["length"] - r["computed"]] + [chunk_size] * (chunked != "running")
            count = min(most) if lacks else min(budget_left, chunk_size)
            if whole_chunk and count < min(chunk_size, r["length"] - r["computed"]):
                break
            planned.append((r["name"], count))
            budget_left -= count if budget != "each" else 0
            if first_only and len(planned) > before:
                break
        return budget_left

    if waiting_first:
        left = admit()
    for r in running:
        need = pages(r["length"] / page_size)
        if memory == "all" and need > free_pages:
            continue
        free_pages -= need if memory == "all" else 0
        left -= give(
            r,
            budget in ("shared", "prompts") and (budget == "shared" or r["length"] - r["computed"] > 1),
            chunked != "waiting",
        )
    left -= spare
    if not waiting_first:
        admit()
    return planned


def _plan(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: plan(**case, **options)


def named(requests: Sequence[tuple[str, int, int]]) -> list[Request]:
    """Return requests of exercise 3."""
    return [{"name": name, "length": length, "computed": computed} for name, length, computed in requests]


def plan_cases(draw: random.Random) -> Iterator[Case]:
    """Yield queues: empty ones, tight and ample budgets, seats and pages, chunks, requests with a part in the cache already."""
    plenty = dict(token_budget=100, chunk_size=100, seats=8, free_pages=100, page_size=16)
    decode = [("a", 20, 19), ("b", 7, 6), ("c", 50, 49)]
    prompts = [("d", 30, 0), ("e", 10, 0), ("f", 40, 0)]
    for running, waiting, changed in (
        ([], [], {}), (decode, [], {}), ([], prompts, {}), (decode, prompts, {"token_budget": 3}),
        (decode, prompts, {"seats": 3}), (decode, prompts, {"free_pages": 2}), (decode, prompts, {"free_pages": 3}),
        (decode, [("d", 100, 0), *prompts[1:]], {"free_pages": 6, "chunk_size": 16}), (decode, prompts, {"token_budget": 2}),
        ([], [("d", 32, 0), ("e", 33, 0)], {"free_pages": 4}), ([], [("d", 32, 0), ("e", 33, 0)], {"free_pages": 5}),
        ([], [("d", 40, 32), ("e", 33, 0)], {"free_pages": 2}), ([], prompts, {"free_pages": 0}), ([], prompts, {"seats": 0}),
        ([("a", 50, 0), ("b", 90, 0)], prompts, {"token_budget": 50}), (decode, prompts, {"token_budget": 0}),
    ):  # fmt: skip
        yield {"running": named(running), "waiting": named(waiting), **plenty, **changed}
    while True:
        yield _random_queue(draw)


def _random_queue(draw: random.Random) -> Case:
    """Return a case in which some of the bounds are tight."""
    names = iter(draw.sample([f"r{i}" for i in range(40)], 24))
    longest, page_size = draw.choice((6, 40, 400)), draw.choice((1, 4, 16))

    def some(count: int, decoding: float) -> list[Request]:
        found = []
        for _ in range(count):
            length = draw.randrange(1, longest + 1)
            done = length - 1 if draw.random() < decoding else draw.choice((0, 0, draw.randrange(length)))
            found.append({"name": next(names), "length": length, "computed": done})
        return found

    most = draw.choice((5, 5, 12))
    running, waiting = some(draw.randrange(most), 0.5), some(draw.randrange(most), 0.0)
    lacking = sum(r["length"] - r["computed"] for r in (*running, *waiting))
    need = sum(-(-r["length"] // page_size) for r in waiting)
    return {
        "running": running, "waiting": waiting, "token_budget": draw.choice((draw.randrange(lacking + 2), lacking + 5)),
        "chunk_size": draw.choice((1, draw.randrange(1, longest + 1), longest + 1)),
        "seats": len(running) + draw.choice((0, 1, 2, 8)),
        "free_pages": draw.choice((need, draw.randrange(need + 2), need + 9)), "page_size": page_size,
    }  # fmt: skip


def plan_kind(got: Any, case: Case) -> tuple[Pass]:
    """Return the pass. Raises CheckFailed when it is no list of names with whole numbers."""
    got = plain(got)
    if not isinstance(got, list | tuple):
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("expected a list of pairs (name, tokens)", case, got=describe(got), hint=hint)
    names = {r["name"] for r in (*case["running"], *case["waiting"])}
    if not all(_is_share(pair, names) for pair in got):
        raise CheckFailed("expected pairs of a request's name and a whole number", case, got=describe(got))
    return ([(pair[0], pair[1]) for pair in got],)


def _is_share(pair: Any, names: set[str]) -> bool:
    """Return whether it is a request's name with a whole number."""
    two = isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)
    return two and pair[0] in names and is_whole(pair[1])


def plan_facts(shares: Pass, right_pass: Pass, case: Case) -> str:
    """Return the rule that a pass breaks, as a question; the most telling one first."""
    by_name = {r["name"]: r for r in (*case["running"], *case["waiting"])}
    running, waiting = ([r["name"] for r in case[key]] for key in ("running", "waiting"))
    got, right = dict(shares), dict(right_pass)
    admitted = [name for name, _ in shares if name in waiting]
    pages = sum(-(-by_name[name]["length"] // case["page_size"]) for name in admitted)
    total = sum(count for _, count in shares)
    kinds = [name in running for name, _ in shares]
    rules = [
        ("Does one request stand in it twice?", len(got) < len(shares)),
        ("A request that gets no token is not in the pass. Is one in it with 0, or less?", min(got.values(), default=1) < 1),
        ("Does one request get more than it lacks?", any(n > by_name[k]["length"] - by_name[k]["computed"] for k, n in shares)),
        ("chunk_size bounds what one request gets. Does it, for all of them?", any(n > case["chunk_size"] for _, n in shares)),
        ("Is the budget for all together, decoding requests included?", total > case["token_budget"]),
        ("Running requests come first. Does one of them wait for one that has just come?", kinds != sorted(kinds, reverse=True) or (
            bool(admitted) and any(got.get(name, 0) < right.get(name, 0) for name in running))),
        ("Does the pass keep the order of the lists?", sorted(shares) == sorted(right.items()) and shares != right_pass),
        ("Do running requests hold seats, too?", len(running) + len(admitted) > max(case["seats"], len(running))),
        ("Does one request overtake another that does not fit?", admitted != waiting[: len(admitted)]),
        ("Is the pages' number rounded up, is each one's share taken off, and is it that of the whole text?", pages > case["free_pages"]),
        ("Is a request turned away without need?", bool(set(right) - set(got))),
        ("Is what is left of the budget used?", total < sum(right.values())),
    ]  # fmt: skip
    return next((words for words, broken in rules if broken), "")


def _is_queue(
    running: Sequence[Request], waiting: Sequence[Request], token_budget: int, chunk_size: int, seats: int,
    free_pages: int, page_size: int,
) -> bool:  # fmt: skip
    """Return whether every request lacks a token, and no more run than there are seats."""
    all_of_them = [*running, *waiting]
    lacking = all(len(r) == 3 and 0 <= r["computed"] < r["length"] for r in all_of_them)
    apart = len({r["name"] for r in all_of_them}) == len(all_of_them)
    return lacking and apart and chunk_size >= 1 and page_size >= 1 and len(running) <= seats


_ROUND = "Pages for a waiting request: rounded up, for its whole text, and taken off what is free. Which of these is missing?"
PLAN = Family(
    plan,
    plan_cases,
    (Part(broken="not the next pass", facts=plan_facts, mistakes={
        "Pages are for the whole text of a request. Are they counted for what it lacks, or for a chunk?": tuple(
            _plan(size=size) for size in ("lacks", "chunk", "count", "done")),
        "Is the number of pages rounded up?": (_plan(pages=math.floor), _plan(pages=round)),
        "Is each admitted request's share taken off the free pages?": _plan(taken=False),
        "Is a page more than needed asked for when a text fills its pages?": _plan(pages=lambda x: math.floor(x) + 1),
        "There are just as many pages as are needed. Is a request turned away without need?": _plan(equal=True),
        "Are the free pages looked at, when a request is admitted?": _plan(memory="none"),
        "Running requests have their pages already. Do they need new ones?": _plan(memory="all"),
        "Does one request overtake another that does not fit?": _plan(overtake=True),
        "Do running requests hold seats, too?": (_plan(seated="waiting"), _plan(seated="never")),
        "Is there a seat too many? A request is admitted while fewer run than there are seats.": _plan(seated="more"),
        "A request that gets no token is not in the pass. Is one in it with 0?": _plan(zero=True),
        "chunk_size bounds what one request gets. Does it, for all of them?": tuple(
            _plan(chunked=which) for which in ("running", "waiting")),
        "Is the budget for all together, decoding requests included?": (
            _plan(budget="each"), _plan(budget="prompts")),
        "Running requests come first. Does one of them wait for one that has just come?": _plan(waiting_first=True),
        "Is only one waiting request admitted in a pass?": _plan(first_only=True),
        "Does one request get more than it lacks?": _plan(lacks=False),
        "A request gets what is left of the budget, also less than a chunk. Is it left out?": _plan(whole_chunk=True),
        "Is what is left of the budget used, to the last token?": _plan(spare=1),
    }),),
    kind=plan_kind,
    valid=_is_queue,
)  # fmt: skip
