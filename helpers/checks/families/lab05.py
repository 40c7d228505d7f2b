"""Lab 5, continuous batching: static batches, passes of several requests, queues under a budget, chunks."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_whole, plain

Request = dict[str, Any]
Pass = list[tuple[str, int]]
Packed = tuple[list[int], list[int], dict[int, int]]


# 1: padding


def padding(
    prompts: Sequence[int], answers: Sequence[int], batch_size: int, *, needed: int = 1, full: bool = False,
    prompt_max: str = "batch", answer_max: str = "batch", last: int = 1, passes: int = -1, order: str = "given",
    drop: bool = False,
) -> int:  # fmt: skip
    """The reference; with one of the options changed a wrong answer. `needed`: how often the needed tokens come off."""
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
    """Counts what is needed."""
    return sum(prompts) + sum(answers) - len(prompts)


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
        "How many passes does an answer of one token need after its prompt's? Everybody's first token comes with that.": (
            _padding(passes=0), _padding(passes=0, last=0),
        ),
        "The server takes requests in the order given. Were they sorted?": tuple(
            _padding(order=order) for order in ("pairs", "prompt", "answer", "total", "longest")
        ),
    }),),
    valid=lambda prompts, answers, batch_size: len(prompts) == len(answers) and batch_size >= 1 and all(
        n >= 1 for n in (*prompts, *answers)),
    together=("prompts", "answers"),
)  # fmt: skip


# 2: pack


def pack(
    requests: Sequence[Request], *, tokens: str = "new", start: str = "computed", rows: str = "last", who: str = "all",
) -> Packed:  # fmt: skip
    """The reference; with one of the options changed a wrong answer. `who` gets a token, from which of the `rows`."""
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
    """Keeps the requests' tokens in lists of their own."""
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


# 3: plan


def plan(
    running: Sequence[Request], waiting: Sequence[Request], token_budget: int, chunk_size: int, seats: int,
    free_pages: int, page_size: int, *, zero: bool = False, chunked: str = "both", budget: str = "shared", seated: str = "yes",
    pages: Callable[[float], int] = math.ceil, taken: bool = True, size: str = "whole", overtake: bool = False,
    waiting_first: bool = False, memory: str = "waiting", lacks: bool = True, first_only: bool = False, equal: bool = False,
    whole_chunk: bool = False, spare: int = 0,
) -> Pass:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
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


# 4: the chunk


def chunk(
    num_params: float, kv_bytes: float, decoding: int, context: int, target: float, peak: float, bandwidth: float, *,
    added: bool = False, ops: int = 2, rounded: Callable[[float], Any] = math.floor, spoken: bool = True, lowest: bool = True,
    cache: float = 1.0, read: bool = True, strict: bool = False, most: float = math.inf, size: int = 2, from_reading: bool = False,
) -> Any:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    reading = (size * num_params + cache * kv_bytes * context * decoding) / bandwidth
    if read and (reading >= target if strict else reading > target):
        return 0
    time = target - reading if added else target
    tokens = time * (bandwidth if from_reading else peak) / (ops * num_params)
    found = rounded(tokens) - (decoding if spoken else 0)
    return min(most, max(0, found) if lowest else found)


def _chunk(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: chunk(**case, **options)


def _chunk_one_cache(**case: Any) -> Any:
    """Reads the cache of one request."""
    return chunk(**case, cache=1.0 / max(1, case["decoding"]))


def _chunk_reading_too_late(**case: Any) -> Any:
    """Gives the most that fits, not 0, when reading takes too long."""
    return chunk(**case, read=False)


def chunk_cases(draw: random.Random) -> Iterator[Case]:
    """Yield devices and loads: nothing decodes, reading takes too long or exactly the target, computing fills it exactly."""
    device = dict(num_params=7_000_000_000, kv_bytes=131_072, peak=3e14, bandwidth=1.6e12)
    for decoding, context, target in (
        (60, 3000, 0.0251), (20, 500, 0.0301), (100, 2500, 0.028), (0, 0, 0.0203), (700, 20, 0.0101), (0, 1000, 0.9),
        (5, 100, 0.0005),
    ):  # fmt: skip
        yield {**device, "decoding": decoding, "context": context, "target": target}
    yield dict(
        num_params=10**9, kv_bytes=1000, decoding=3, context=10, target=1.0, peak=3e13 + 1e9, bandwidth=1e12
    )
    drawn = 0
    while True:
        drawn += 1
        case = _exact_chunk(draw) if draw.random() < 0.4 else _random_chunk(draw)
        tokens = case["target"] * case["peak"] / (2 * case["num_params"])
        even = abs(tokens - round(tokens)) < 1e-6 * max(1.0, tokens)
        if even and case["num_params"] & case["num_params"] - 1 != 0:
            continue  # rounding would decide
        if tokens < 600 or (drawn % 40 == 1 and tokens < 12_000):  # one may look for it step by step
            yield case


def _exact_chunk(draw: random.Random) -> Case:
    """Return a case in powers of two, where a time can be exactly the target."""
    params, bandwidth = 2 ** draw.randrange(20, 33), 2.0 ** draw.randrange(36, 41)
    decoding, context = draw.choice((0, 1, 2, 64)), draw.choice((0, 1, 512, 4096))
    kv_bytes = 2 ** draw.randrange(10, 18)
    reading = (2 * params + kv_bytes * context * decoding) / bandwidth
    target = draw.choice((reading, reading * 2, reading / 2))
    tokens = draw.choice(
        (decoding + 1, draw.randrange(1, 500), max(decoding, 1), max(decoding - 1, 1), decoding + 0.5)
    )
    return dict(num_params=params, kv_bytes=kv_bytes, decoding=decoding, context=context, target=target,
                peak=tokens * 2 * params / target, bandwidth=bandwidth)  # fmt: skip


def _random_chunk(draw: random.Random) -> Case:
    """Return a case of any kind."""
    params, bandwidth = draw.randrange(10**8, 10**11), draw.uniform(2e11, 4e12)
    decoding, context, kv_bytes = (
        draw.choice((0, 1, draw.randrange(300))),
        draw.randrange(5000),
        draw.randrange(10**4, 3 * 10**5),
    )
    reading = (2 * params + kv_bytes * context * decoding) / bandwidth
    target = reading * draw.choice((0.6, 0.97, 1.03, 1.5, 4.0))
    tokens = decoding + draw.choice(
        (-5.0, 0.4, draw.uniform(0, 500), draw.uniform(0, 20), draw.uniform(0, 11_000))
    )
    peak = max(tokens, 0.3) * 2 * params / target
    return dict(num_params=params, kv_bytes=kv_bytes, decoding=decoding, context=context, target=target, peak=peak,
                bandwidth=bandwidth)  # fmt: skip


CHUNK = Family(
    chunk,
    chunk_cases,
    (Part(mistakes={
        "Reading alone takes longer than the target. Which chunk is small enough then?": (
            _chunk_reading_too_late, _chunk(read=False, lowest=False), _chunk(cache=0.0), _chunk(read=False, spoken=False),
        ),
        "Is the cache of each decoding request read?": _chunk_one_cache,
        "How many bytes has a 16-bit weight?": _chunk(size=1),
        "A pass that takes exactly the target stays within it. Is it refused?": (
            _chunk(strict=True), _chunk(rounded=lambda n: math.ceil(n) - 1), _chunk(strict=True, rounded=lambda n: math.ceil(n) - 1)),
        "A chunk is never negative. What if decoding requests fill the pass?": _chunk(lowest=False),
        "Decoding requests are in the pass, too. Is there room for their tokens?": (
            _chunk(spoken=False), _chunk(spoken=False, rounded=float)),
        "Is a chunk a whole number, rounded so that the target holds?": (
            _chunk(rounded=math.ceil), _chunk(rounded=float), _chunk(rounded=round)),
        "Reading and computing happen at the same time. Do their times add up?": _chunk(added=True),
        "A multiply-add is two operations. Are both counted?": _chunk(ops=1),
        "Does computing go at the pace of reading? They have rates of their own.": _chunk(from_reading=True),
        "Is there a bound on the chunk that the text does not name?": tuple(
            _chunk(most=n) for n in (256, 512, 1000, 1024, 2048, 4096, 8192, 10_000)),
    }),),
)  # fmt: skip
