"""Checks of lab 5, continuous batching."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable, require_number
from helpers.checks.machinery.limit import attempt

LAB = "05_continuous_batching"
Function = Callable[..., Any]
Request = dict[str, Any]
Pass = list[tuple[str, int]]


@exercise(LAB, 1, "count the padding")
def check_padding(answer: Function) -> None:
    """`answer(prompts, answers, batch_size)` -> tokens that static batches compute for nothing."""
    require_callable(answer)
    cases: list[tuple[list[int], list[int], int]] = [
        ([3, 7, 5], [4, 1, 6], 3),
        ([10, 20, 30, 40, 50, 60, 70], [9, 2, 14, 1, 5, 30, 3], 3),
        ([8], [5], 4),
        ([6, 2, 9, 9], [1, 1, 1, 1], 2),
    ]
    for prompts, answers, batch_size in cases:
        given = {"prompts": prompts, "answers": answers, "batch_size": batch_size}
        got, right = attempt(answer, **given), _padding(prompts, answers, batch_size)
        require_number(got, right, given, mistakes=_padding_mistakes(prompts, answers, batch_size))


def _padding(prompts: Sequence[int], answers: Sequence[int], size: int, rows: int | None = None) -> int:
    """The reference; with `rows`, batches are filled up to so many."""
    total = 0
    for i in range(0, len(prompts), size):
        p, a = prompts[i : i + size], answers[i : i + size]
        total += (rows or len(p)) * (max(p) + max(a) - 1) - sum(p) - sum(a) + len(a)
    return total


def _padding_mistakes(prompts: list[int], answers: list[int], size: int) -> dict[str, float]:
    """Wrong values by the question that explains them."""
    count, right = len(prompts), _padding(prompts, answers, size)
    ones, batches = [1] * count, -(-count // size)
    of_prompts, of_answers = _padding(prompts, ones, size), _padding(ones, answers, size)
    needed = sum(prompts) + sum(answers) - count
    mistakes: dict[str, float] = {
        "That is all that is computed. How much of it is needed?": right + needed,
        "That is what is needed. What was asked for?": needed,
        "Those who have finished keep their rows. What is computed there?": of_prompts,
        "Short prompts are padded. Is that counted?": of_answers,
        "Is everything padded to the longest of its own batch, not of all?": _padding(prompts, answers, count),
        "The last batch may be smaller. How many rows has it?": _padding(prompts, answers, size, size),
        "An answer's last token is never sent in. Is it counted as needed?": right - count,
        "How many passes does an answer of one token need after its prompt's? Everybody's first token comes with that.": (
            right + sum(len(prompts[i * size : (i + 1) * size]) for i in range(batches))
        ),
    }  # fmt: skip
    return {words: value for words, value in mistakes.items() if value != right}


@exercise(LAB, 2, "mend the places")
def check_pack(answer: Function) -> None:
    """`answer(requests)` -> (tokens, positions, rows) of a pass."""
    require_callable(answer)
    decode = _request([11, 12, 13], [21], 3, 1)
    later = _request([14, 15], [22, 23, 24], 4, 1)
    whole, first = _request([31, 32, 33, 34], [], 0, 4), _request([41, 42, 43, 44, 45], [], 0, 2)
    middle, end = _request([41, 42, 43, 44, 45], [], 2, 2), _request([41, 42, 43, 44, 45], [], 2, 3)
    again = _request([51, 52, 53], [61, 62, 63], 2, 4)  # preempted: part of its answer is computed again
    for requests in (
        [middle, later],
        [again, middle, whole, later],
        [whole],
        [decode],
        [decode, end, first],
        [first],
    ):
        # the first two tell the mistakes apart
        given = {"requests": requests}
        got = attempt(answer, **given)
        if not isinstance(got, tuple | list) or len(got) != 3:
            hint = "Is a return missing?" if got is None else ""
            raise CheckFailed(
                "expected three things: tokens, positions, rows", given, got=describe(got), hint=hint
            )
        tokens, positions, rows = _pack(requests)
        _require_list("tokens", got[0], tokens, given, _token_mistakes(requests))
        _require_list("positions", got[1], positions, given, _position_mistakes(requests))
        _require_rows(got[2], rows, given, requests)


def _request(prompt: list[int], answer: list[int], computed: int, count: int) -> Request:
    """A request of exercise 2."""
    return {"prompt": prompt, "answer": answer, "computed": computed, "count": count}


def _pack(requests: Sequence[Request]) -> tuple[list[int], list[int], dict[int, int]]:
    """The reference."""
    tokens: list[int] = []
    positions: list[int] = []
    rows = {}
    for i, r in enumerate(requests):
        end = r["computed"] + r["count"]
        tokens += (r["prompt"] + r["answer"])[r["computed"] : end]
        positions += range(r["computed"], end)
        if end == len(r["prompt"]) + len(r["answer"]):
            rows[i] = len(tokens) - 1
    return tokens, positions, rows


def _token_mistakes(requests: Sequence[Request]) -> dict[str, list[int]]:
    """Wrong lists of tokens."""
    return {
        "Is what is computed already left out?": [
            t for r in requests for t in (r["prompt"] + r["answer"])[: r["computed"] + r["count"]]
        ],
        "Only `count` tokens are computed now. Where does the chunk end?": [
            t for r in requests for t in (r["prompt"] + r["answer"])[r["computed"] :]
        ],
        "Is a token of the answer computed like one of the prompt?": [
            t for r in requests for t in r["prompt"][r["computed"] : r["computed"] + r["count"]]
        ],
    }


def _position_mistakes(requests: Sequence[Request]) -> dict[str, list[int]]:
    """Wrong lists of positions."""

    def counted(starts: Sequence[int]) -> list[int]:
        return [
            n for r, start in zip(requests, starts, strict=True) for n in range(start, start + r["count"])
        ]

    return {
        "An answer stands behind its prompt. Do its positions start anew?": counted(
            [len(r["answer"]) for r in requests]
        ),
        "A first new token stands behind what is computed. Does it stand at 0?": counted([0] * len(requests)),
        "Is that the place in the flat list? Every text has positions of its own.": list(
            range(sum(r["count"] for r in requests))
        ),
        "Are positions counted from 0?": counted([r["computed"] + 1 for r in requests]),
        "Where does the new part of a text begin: behind the prompt, or behind what is computed?": counted(
            [len(r["prompt"]) for r in requests]
        ),
        "Where does the new part of a text begin: behind all of it, or behind what is computed?": counted(
            [len(r["prompt"]) + len(r["answer"]) for r in requests]
        ),
    }


def _require_list(
    what: str, got: Any, right: list[int], given: Mapping[str, Any], mistakes: Mapping[str, list[int]]
) -> None:
    """CheckFailed unless `got` is the list."""
    if not isinstance(got, list | tuple | range) or not all(
        isinstance(n, int) and not isinstance(n, bool) for n in got
    ):
        raise CheckFailed(f"{what}: expected a list of whole numbers", given, got=describe(got))
    if list(got) != right:
        hint = next((words for words, wrong in mistakes.items() if list(got) == wrong), "")
        raise CheckFailed(f"{what}: not right", given, expected=right, got=describe(got), hint=hint)


def _require_rows(got: Any, right: dict[int, int], given: Mapping[str, Any], requests: list[Request]) -> None:
    """CheckFailed unless `got` are the rows that next tokens are chosen from."""
    if not isinstance(got, dict):
        raise CheckFailed("rows: expected a dictionary", given, got=describe(got))
    if got == right:
        return
    hint = next((words for words, true in _row_mistakes(got, right, requests) if true()), "")
    raise CheckFailed("rows: not right", given, expected=right, got=describe(got), hint=hint)


def _row_mistakes(
    got: dict[Any, Any], right: dict[int, int], requests: list[Request]
) -> list[tuple[str, Callable[[], bool]]]:
    """Each likely mistake and a test for it, which may count on those before it having failed."""
    ends = [sum(r["count"] for r in requests[: i + 1]) for i in range(len(requests))]
    return [
        ("Keys are the requests' places in the list.", lambda: not set(got) <= set(range(len(requests)))),
        ("Does a request that still lacks a part of its text get a token?", lambda: bool(set(got) - set(right))),
        ("Who has all of its text computed gets a token. Is somebody missing?", lambda: bool(set(right) - set(got))),
        ("Is that the request's number? Logits have a row for each token.", lambda: all(got[i] == i for i in got)),
        ("Is that a token's position in its text? Rows are those of the flat list.", lambda: all(
            got[i] == requests[i]["computed"] + requests[i]["count"] - 1 for i in got)),
        ("Which of a request's rows speaks of the token that comes next: its first?", lambda: all(
            got[i] == ends[i] - requests[i]["count"] for i in got)),
        ("Is that one row too far?", lambda: all(got[i] == ends[i] for i in got)),
    ]  # fmt: skip


@exercise(LAB, 3, "schedule under a budget")
def check_plan(answer: Function) -> None:
    """`answer(running, waiting, token_budget, chunk_size, seats, free_pages, page_size)` -> the next pass."""
    require_callable(answer)
    plenty = dict(token_budget=100, chunk_size=100, seats=8, free_pages=100, page_size=16)
    decode = [("a", 20, 19), ("b", 7, 6), ("c", 50, 49)]
    prompts = [("d", 30, 0), ("e", 10, 0), ("f", 40, 0)]
    cases: list[tuple[list[tuple[str, int, int]], list[tuple[str, int, int]], dict[str, int]]] = [
        ([], prompts, {}),
        (decode, [], {}),
        (decode, prompts, {"token_budget": 38}),
        (decode, prompts, {"chunk_size": 16}),
        ([("a", 64, 20), *decode[1:]], prompts, {"chunk_size": 12, "token_budget": 30}),
        (decode, prompts, {"token_budget": 2}),
        (decode, prompts, {"token_budget": 3}),
        (decode, prompts, {"seats": 4}),
        (decode, prompts, {"seats": 3}),
        ([("a", 50, 0), *decode[1:]], prompts, {"token_budget": 60, "seats": 4}),
        ([("a", 50, 0), ("b", 90, 0)], prompts, {"token_budget": 50}),
        (decode, prompts, {"free_pages": 2}),
        (decode, prompts, {"free_pages": 3}),
        (decode, [("d", 100, 0), *prompts[1:]], {"free_pages": 6, "chunk_size": 16}),
        (decode, prompts, {"free_pages": 5, "chunk_size": 16}),
        ([], [("d", 32, 0), ("e", 33, 0)], {"free_pages": 4}),
        ([], [("d", 32, 0), ("e", 33, 0)], {"free_pages": 5}),
        ([], prompts, {"page_size": 128, "free_pages": 2}),
        ([], [], {}),
    ]
    for running, waiting, changed in cases:
        given: dict[str, Any] = {"running": _named(running), "waiting": _named(waiting), **plenty, **changed}
        got = attempt(answer, **given)
        _require_pass(got, given)


def _named(requests: Sequence[tuple[str, int, int]]) -> list[Request]:
    """Requests of exercise 3."""
    return [{"name": name, "length": length, "computed": computed} for name, length, computed in requests]


def _plan(
    running: list[Request], waiting: list[Request], token_budget: int, chunk_size: int, seats: int,
    free_pages: int, page_size: int,
) -> Pass:  # fmt: skip
    """The reference."""
    planned: Pass = []
    taken = len(running)
    for i, r in enumerate([*running, *waiting]):
        left = token_budget - sum(count for _, count in planned)
        if i >= len(running):
            free_pages -= -(-r["length"] // page_size)
            taken += 1
            if taken > seats or free_pages < 0:
                break
        if count := min(left, chunk_size, r["length"] - r["computed"]):
            planned.append((r["name"], count))
    return planned


def _require_pass(got: Any, given: dict[str, Any]) -> None:
    """CheckFailed unless `got` is the next pass; the rule that it breaks is named."""
    if not isinstance(got, list | tuple):
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("expected a list of pairs (name, tokens)", given, got=describe(got), hint=hint)
    by_name = {r["name"]: r for r in (*given["running"], *given["waiting"])}
    if not all(_is_share(pair, by_name) for pair in got):
        raise CheckFailed("expected pairs of a request's name and a whole number", given, got=describe(got))
    shares: Pass = [(pair[0], pair[1]) for pair in got]
    right = _plan(**given)
    if shares != right:
        hint = next((words for words, broken in _broken_rules(shares, given, by_name) if broken), "")
        raise CheckFailed("not the next pass", given, expected=right, got=describe(got), hint=hint)


def _is_share(pair: Any, names: Mapping[str, Request]) -> bool:
    """Whether it is a request's name with a whole number."""
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
        return False
    return pair[0] in names and isinstance(pair[1], int) and not isinstance(pair[1], bool)


def _broken_rules(
    shares: Pass, given: dict[str, Any], by_name: Mapping[str, Request]
) -> list[tuple[str, bool]]:
    """Each rule, as a question, and whether the pass breaks it; the most telling ones first."""
    running, waiting = ([r["name"] for r in given[key]] for key in ("running", "waiting"))
    got, right = dict(shares), dict(_plan(**given))
    admitted = [name for name, _ in shares if name in waiting]
    pages = sum(-(-by_name[name]["length"] // given["page_size"]) for name in admitted)
    total = sum(count for _, count in shares)
    return [
        ("Does somebody stand in it twice?", len(got) < len(shares)),
        ("Who gets no token has no place in the pass. Is somebody in it with 0, or less?", min(got.values(), default=1) < 1),
        ("Does one request get more than it lacks?", any(n > by_name[name]["length"] - by_name[name]["computed"] for name, n in shares)),
        ("chunk_size bounds what one request gets. Does it, for everybody?", any(n > given["chunk_size"] for _, n in shares)),
        ("Is the budget for all together, those who decode included?", total > given["token_budget"]),
        ("Those who run come first. Does anybody wait for one who has just come?", _late(shares, running) or any(
            got.get(name, 0) < right.get(name, 0) for name in running)),
        ("Does the pass keep the order of the lists?", sorted(shares) == sorted(right.items())),
        ("Do those who run hold seats, too?", len(running) + len(admitted) > given["seats"]),
        ("Does one overtake another who does not fit?", admitted != waiting[: len(admitted)]),
        ("Is the pages' number rounded up, is each one's share taken off, and is it that of the whole text?", pages > given["free_pages"]),
        ("Pages are for those who are admitted. Is anybody turned away without need?", bool(set(right) - set(got))),
        ("Is what is left of the budget used?", total < sum(right.values())),
    ]  # fmt: skip


def _late(shares: Pass, running: list[str]) -> bool:
    """Whether a running request stands behind one that was waiting."""
    kinds = [name in running for name, _ in shares]
    return kinds != sorted(kinds, reverse=True)


def serve(
    plan: Function, lengths: Sequence[tuple[int, int]], token_budget: int, chunk_size: int, seats: int
) -> list[int]:
    """The sizes, in tokens, of all passes in which `plan` serves requests of `(prompt, answer)` tokens; there are pages enough.

    Raises CheckFailed for a plan that computes nothing.
    """
    requests = [
        {"name": str(i), "length": prompt, "computed": 0, "last": prompt + answer}
        for i, (prompt, answer) in enumerate(lengths)
    ]
    running: list[Request] = []
    sizes: list[int] = []
    while running or requests:
        shown = [
            [{k: r[k] for k in ("name", "length", "computed")} for r in rs] for rs in (running, requests)
        ]
        planned = plan(*shown, token_budget, chunk_size, seats, 10**6, 16)
        if not planned:
            raise CheckFailed(
                "the plan computes nothing, and there is work to do", {"chunk_size": chunk_size}
            )
        sizes.append(sum(count for _, count in planned))
        shares = dict(planned)
        running += [r for r in requests if r["name"] in shares]
        requests = [r for r in requests if r["name"] not in shares]
        for r in running:
            r["computed"] += shares.get(r["name"], 0)
            r["length"] += r["computed"] == r["length"]
        running = [r for r in running if r["length"] < r["last"]]
    return sizes


@exercise(LAB, 4, "choose the chunk")
def check_chunk(answer: Function) -> None:
    """`answer(num_params, kv_bytes, decoding, context, target, peak, bandwidth)` -> tokens of the largest chunk."""
    require_callable(answer)
    device = dict(num_params=7_000_000_000, kv_bytes=131_072, peak=3e14, bandwidth=1.6e12)
    for decoding, context, target in (
        (60, 3000, 0.0251), (20, 500, 0.0301), (100, 2500, 0.028), (0, 0, 0.0203), (700, 20, 0.0101),
    ):  # fmt: skip
        given: dict[str, Any] = {**device, "decoding": decoding, "context": context, "target": target}
        got, right = attempt(answer, **given), _chunk(**given)
        require_number(got, right, given, mistakes=_chunk_mistakes(given, right))


def _chunk(
    num_params: float, kv_bytes: float, decoding: int, context: int, target: float, peak: float, bandwidth: float,
    spare: float = 0.0, rounded: Callable[[float], int] = math.floor,
) -> int:  # fmt: skip
    """The reference; `spare` is a part of the target that computing may not use."""
    if (2 * num_params + kv_bytes * context * decoding) / bandwidth > target:
        return 0
    return max(0, rounded((target - spare) * peak / (2 * num_params)) - decoding)


def _chunk_mistakes(given: dict[str, Any], right: int) -> dict[str, tuple[float, ...]]:
    """Wrong values by the question that explains them, where they are wrong at all."""
    reading = 2 * given["num_params"] + given["kv_bytes"] * given["context"] * given["decoding"]
    seconds, tokens = (
        reading / given["bandwidth"],
        given["target"] * given["peak"] / (2 * given["num_params"]),
    )
    floor, decoding = math.floor(tokens), given["decoding"]
    mistakes: dict[str, tuple[float, ...]] = {
        "Reading alone takes longer than the target. Which chunk is small enough then?": (
            (max(0, floor - decoding), floor - decoding, floor) if seconds > given["target"] else ()
        ),
        "A chunk is never negative. What if those who decode fill the pass?": (
            (floor - decoding,) if floor < decoding else ()
        ),
        "Those who decode are in the pass, too. Is there room for their tokens?": (floor, tokens),
        "Is a chunk a whole number, rounded so that the target holds?": (
            math.ceil(tokens) - decoding, tokens - decoding, round(tokens) - decoding,
        ),
        "Reading and computing happen at the same time. Do their times add up?": (_chunk(**given, spare=seconds),),
        "A multiply-add is two operations. Are both counted?": (_chunk(**given | {"peak": 2 * given["peak"]}),),
        "Do cached tokens, or bytes of weights, count as operations?": (
            math.floor(given["target"] * given["bandwidth"] / (2 * given["num_params"])) - decoding,
        ),
    }  # fmt: skip
    return {words: tuple(v for v in values if v != right) for words, values in mistakes.items()}
