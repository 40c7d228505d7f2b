"""Exercise 5.2: passes of several requests."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Request = dict[str, Any]
Packed = tuple[list[int], list[int], dict[int, int]]


def pack(
    requests: Sequence[Request], *, tokens: str = "new", start: str = "computed", rows: str = "last", who: str = "all",
) -> Packed:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one.

    `who` gets a token, from which of the `rows`.
    """
    flat, positions, chosen = list[int](), list[int](), dict[int, int]()
    for i, r in enumerate(requests):
        text, done = [*r["prompt"], *r["answer"]], r["computed"]
        end = done + r["count"]
        shown = r["prompt"] if tokens == "prompt" else text
        new = {"all": shown[:end], "rest": shown[done:], "first": shown[: r["count"]]}.get(
            tokens, shown[done:end]
        )
        first = {"computed": done, "answer": len(r["answer"]), "zero": 0, "flat": len(positions), "one": done + 1,
                 "prompt": len(r["prompt"]), "text": len(text)}[start]  # fmt: skip
        begin = len(flat)
        flat += new
        positions += range(first, first + r["count"])
        last = len(flat) - 1
        gets = {"all": end == len(text), "everybody": True, "answering": end == len(text) or bool(r["answer"]),
                "prompt": end >= len(r["prompt"]), "exact": end == len(r["prompt"]), "decode": r["count"] == 1,
                "spoken": end == len(text) and bool(r["answer"]), "asked": end == len(text) and not r["answer"]}  # fmt: skip
        if gets[who]:
            chosen[i] = {
                "last": last, "request": i, "position": end - 1, "first": begin, "beyond": last + 1,
                "count": r["count"] - 1, "value": flat.index(new[-1]) if new else last, "seen": len(chosen),
            }[rows]  # fmt: skip
    return flat, positions, chosen


def _packed(part: int, **options: Any) -> Wrong:
    """Return a wrong answer to one part."""
    return lambda requests: pack(requests, **options)[part]


def _tokens_apart(requests: Sequence[Request]) -> list[list[int]]:
    """Keep the tokens of each request in a list of its own."""
    return [([*r["prompt"], *r["answer"]])[r["computed"] : r["computed"] + r["count"]] for r in requests]


def request(prompt: list[int], answer: list[int], computed: int, count: int) -> Request:
    """Return a request of exercise 2."""
    return {"prompt": prompt, "answer": answer, "computed": computed, "count": count}


def pack_cases(draw: random.Random) -> Iterator[Case]:
    """Yield passes: none, decode steps, whole prompts, chunks, preempted requests whose answers are computed again."""
    decode, later = request([11, 12, 13], [21], 3, 1), request([14, 15], [22, 23, 24], 4, 1)
    whole, first = request([31, 32, 33, 34], [], 0, 4), request([41, 42, 43, 44, 45], [], 0, 2)
    middle, end = request([41, 42, 43, 44, 45], [], 2, 2), request([41, 42, 43, 44, 45], [], 2, 3)
    again, part = request([51, 52, 53], [61, 62, 63], 2, 4), request([51, 52, 53], [61, 62, 63], 2, 3)
    for requests in (
        [], [decode], [whole], [first], [end], [part], [middle, later], [again, middle, whole, later], [decode, end, first],
        [request([7, 7, 7], [], 0, 3), request([7, 7], [7], 2, 1)],
    ):  # fmt: skip
        yield {"requests": requests}
    while True:
        requests = [_random_request(draw) for _ in range(draw.randrange(1, draw.choice((2, 4, 8, 20))))]
        if draw.random() < 0.3:  # two that are alike
            requests.insert(draw.randrange(len(requests) + 1), copy.deepcopy(draw.choice(requests)))
        yield {"requests": requests}


def _random_request(draw: random.Random) -> Request:
    """Return a request in any state, over few tokens or many."""
    tokens = draw.choice((2, 5, 50_000))
    prompt = [draw.randrange(tokens) for _ in range(draw.randrange(1, 8))]
    answer = [draw.randrange(tokens) for _ in range(draw.choice((0, 0, 1, 2, 5)))]
    length = len(prompt) + len(answer)
    computed = draw.choice((0, length - 1, draw.randrange(length), min(len(prompt), length - 1)))
    return request(
        prompt,
        answer,
        computed,
        draw.choice((1, length - computed, draw.randrange(1, length - computed + 1))),
    )


def pack_kind(got: Any, case: Case) -> Packed:
    """Return the three parts. Raises CheckFailed when they are something else."""
    got = plain(got)
    if not isinstance(got, tuple | list) or len(got) != 3:
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed(
            "expected three things: tokens, positions, rows", case, got=describe(got), hint=hint
        )
    for name, part in zip(("tokens", "positions"), got, strict=False):
        if not isinstance(part, list | tuple) or not all(is_whole(n) for n in part):
            raise CheckFailed(f"{name}: expected a list of whole numbers", case, got=describe(part))
    if not isinstance(got[2], dict):
        raise CheckFailed("rows: expected a dictionary", case, got=describe(got[2]))
    return list(got[0]), list(got[1]), got[2]


def rows_facts(got: dict[Any, Any], right: dict[int, int], case: Case) -> str:
    """Return what is wrong with the keys of `rows`, as a question."""
    if not set(got) <= set(range(len(case["requests"]))):
        return "Keys are the requests' places in the list."
    if set(got) - set(right):
        return "Does a request that still lacks a part of its text get a token?"
    if set(right) - set(got):
        return "A request whose text is all computed gets a token. Is one missing?"
    return ""


def _is_pass(requests: Sequence[Request]) -> bool:
    """Return whether all requests have their four entries and compute what they have."""
    return all(
        len(r) == 4 and r["prompt"] and r["computed"] >= 0 and r["count"] >= 1
        and r["computed"] + r["count"] <= len(r["prompt"]) + len(r["answer"])
        for r in requests
    )  # fmt: skip


_LACKS = "Does a request that still lacks a part of its text get a token?"
PACK = Family(
    pack,
    pack_cases,
    (
        Part("tokens", broken="not right", mistakes={
            "Is what is computed already left out?": (_packed(0, tokens="all"), _packed(0, tokens="first")),
            "Only `count` tokens are computed now. Where does the chunk end?": _packed(0, tokens="rest"),
            "Is a token of the answer computed like one of the prompt?": _packed(0, tokens="prompt"),
        }),
        Part("positions", broken="not right", mistakes={
            "An answer stands behind its prompt. Do its positions start anew?": _packed(1, start="answer"),
            "A first new token stands behind what is computed. Does it stand at 0?": _packed(1, start="zero"),
            "Is that the place in the flat list? Every text has positions of its own.": _packed(1, start="flat"),
            "Are positions counted from 0?": _packed(1, start="one"),
            "Where does the new part of a text begin: behind the prompt, or behind what is computed?": _packed(1, start="prompt"),
            "Where does the new part of a text begin: behind all of it, or behind what is computed?": _packed(1, start="text"),
        }),
        Part("rows", broken="not right", facts=rows_facts, mistakes={
            "Is the row looked up by the token's value? A token may occur twice.": _packed(2, rows="value"),
            "Is that the request's number? Logits have a row for each token.": tuple(
                _packed(2, rows=rows, who=who) for rows in ("request", "seen") for who in ("all", "everybody")),
            "Is that a token's position in its text? Rows are those of the flat list.": (
                _packed(2, rows="position"), _packed(2, rows="count")),
            "Which of a request's rows speaks of the token that comes next: its first?": _packed(2, rows="first"),
            "Is that one row too far?": _packed(2, rows="beyond"),
            _LACKS: _packed(2, who="everybody"),
            "A preempted request computes its answer again. Does it get a token before all of it is there?": (
                _packed(2, who="answering"), _packed(2, who="prompt")),
            "Text is prompt and answer. Is the answer forgotten, or the prompt?": (
                _packed(2, who="exact"), _packed(2, who="spoken"), _packed(2, who="asked")),
            "A pass of one token need not be the last one of a text. Who gets a token?": _packed(2, who="decode"),
        }),
    ),
    kind=pack_kind,
    valid=_is_pass,
)  # fmt: skip
