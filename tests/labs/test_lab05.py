"""Lab 5: every wrong answer is refused with the message meant for it, every right one is accepted."""

import math

import pytest

from helpers.checks import CheckFailed, lab05
from helpers.checks.machinery import limit
from tests.labs.answers import NO_NUMBER, accepts, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 1.0)


def cut(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


def padding(prompts, answers, batch_size, *, needed=True, rows=None, own=True, last=1, extra=0,
            prefill=True, decode=True, only_needed=False):  # fmt: skip
    """The right answer, row by row, and with one of the options changed a wrong one."""
    computed = 0
    for p, a in zip(cut(prompts, batch_size), cut(answers, batch_size), strict=True):
        longest = max(p if own else prompts), max(a if own else answers)
        for mine in [*zip(p, a, strict=True), *[(0, 0)] * ((batch_size if rows else len(p)) - len(p))]:
            computed += longest[0] if prefill else mine[0]
            computed += (longest[1] if decode else mine[1]) - 1 + extra
    useful = sum(prompts) + sum(a - (1 if last else 0) for a in answers)
    return useful if only_needed else computed - (useful if needed else 0)


def test_1_right(capsys):
    accepts(lab05.check_padding, padding, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"needed": False}, "How much of it is needed?"),
        ({"only_needed": True}, "That is what is needed."),
        ({"decode": False}, "Those who have finished keep their rows."),
        ({"prefill": False}, "Short prompts are padded."),
        ({"own": False}, "the longest of its own batch"),
        ({"rows": "full"}, "The last batch may be smaller."),
        ({"last": 0}, "An answer's last token is never sent in."),
        ({"extra": 1}, "Each request's first token comes with that."),
    ],
)
def test_1_wrong(options, words):
    refuses(lab05.check_padding, lambda prompts, answers, batch_size: padding(prompts, answers, batch_size, **options), words)  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_1_no_number(answer, words):
    refuses(lab05.check_padding, answer, words)


def pack(requests, *, start="computed", rows="last", late=True, tokens="new"):
    """The right answer, token by token, and with one of the options changed a wrong one."""
    flat, positions, chosen = [], [], {}
    for i, r in enumerate(requests):
        text, done, end = r["prompt"] + r["answer"], r["computed"], r["computed"] + r["count"]
        begin = len(flat)
        for n in range(done, end):
            flat.append(text[n])
            positions.append({"computed": n, "answer": len(r["answer"]) + n - done, "zero": n - done,
                              "flat": len(positions), "one": n + 1, "prompt": len(r["prompt"]) + n - done,
                              "text": len(text) + n - done}[start])  # fmt: skip
        row = {"last": len(flat) - 1, "request": i, "position": end - 1, "first": begin, "beyond": len(flat)}
        if end == len(text) or not late:
            chosen[i] = row[rows]
    if tokens != "new":
        ends = {"all": lambda r: (0, r["computed"] + r["count"]), "rest": lambda r: (r["computed"], None)}[
            tokens
        ]
        flat = [t for r in requests for t in (r["prompt"] + r["answer"])[slice(*ends(r))]]
    return flat, positions, chosen


def test_2_right(capsys):
    accepts(lab05.check_pack, pack, capsys)
    accepts(lab05.check_pack, lambda requests: list(pack(requests)), capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": "answer"}, "Do its positions start anew?"),  # the article's
        ({"start": "zero"}, "Does it stand at 0?"),
        ({"start": "flat"}, "Is that the place in the flat list?"),
        ({"start": "one"}, "Are positions counted from 0?"),
        ({"start": "prompt"}, "behind the prompt, or behind what is computed?"),
        ({"start": "text"}, "behind all of it, or behind what is computed?"),
        ({"rows": "request"}, "Is that the request's number?"),  # the article's
        ({"rows": "position"}, "Is that a token's position in its text?"),
        ({"rows": "first"}, "its first?"),
        ({"rows": "beyond"}, "Is that one row too far?"),
        ({"late": False}, "Does a request that still lacks a part of its text get a token?"),
        ({"tokens": "all"}, "Is what is computed already left out?"),
        ({"tokens": "rest"}, "Where does the chunk end?"),
    ],
)
def test_2_wrong(options, words):
    refuses(lab05.check_pack, lambda requests: pack(requests, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda requests: None, "Is a return missing?"),
        (lambda requests: ([], []), "expected three things"),
        (lambda requests: (None, [], {}), "tokens: expected a list of whole numbers"),
        (lambda requests: (pack(requests)[0], [0.5], {}), "positions: expected a list of whole numbers"),
        (lambda requests: (*pack(requests)[:2], [0]), "rows: expected a dictionary"),
        (lambda requests: (*pack(requests)[:2], {}), "Is one missing?"),
        (lambda requests: (*pack(requests)[:2], {"x": 0}), "Keys are the requests' places in the list."),
        (lambda requests: (*pack(requests)[:2], {99: 0, **pack(requests)[2]}), "Keys are the requests' places"),
        (lambda requests: (*pack(requests)[:2], {len(requests) - 1: None}), "rows: not right"),
        (lambda requests: (pack(requests), requests.clear())[0], "it changed its input"),
        (lambda requests: ([r["prompt"][r["computed"] : r["computed"] + r["count"]] for r in requests], [], {}),
         "tokens: expected a list of whole numbers"),
        (lambda requests: ([t for r in requests for t in r["prompt"][r["computed"] : r["computed"] + r["count"]]], [], {}),
         "Is a token of the answer computed like one of the prompt?"),
        ([1], "expected a function"),
    ],
)  # fmt: skip
def test_2_wrong_in_kind(answer, words):
    refuses(lab05.check_pack, answer, words)


def plan(running, waiting, token_budget, chunk_size, seats, free_pages, page_size, *, zero=False, chunked=True,
         shared=True, holding=True, pages=math.ceil, taken=True, whole=True, overtake=False, seated=True,
         waiting_first=False, memory=True, lacks=True, least=0, decode_counts=True):  # fmt: skip
    """The right answer with its state in one place, and with one of the options changed a wrong one."""
    planned, left, used = [], [token_budget], len(running) if holding else 0

    def give(request, counts=True):
        most = [left[0]] + [chunk_size] * chunked + [request["length"] - request["computed"]] * lacks
        planned.append((request["name"], max(least, min(most))))
        left[0] -= planned[-1][1] if shared and counts else 0

    def admit():
        nonlocal free_pages, used
        for request in waiting:
            size = request["length"] if whole else min(request["length"], chunk_size)
            need = pages(size / page_size)
            if left[0] <= 0 or (seated and used >= seats):
                return
            if memory and need > free_pages:
                if overtake:
                    continue
                return
            free_pages -= need if taken else 0
            used += 1
            give(request)

    if waiting_first:
        admit()
    for request in running:
        if left[0] > 0 or zero:
            give(request, decode_counts)
    if not waiting_first:
        admit()
    return planned


def test_3_right(capsys):
    accepts(lab05.check_plan, plan, capsys)
    accepts(lab05.check_plan, lambda **given: [list(pair) for pair in plan(**given)], capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"zero": True}, "A request that gets no token is not in the pass."),
        ({"lacks": False}, "Does one request get more than it lacks?"),
        ({"chunked": False}, "chunk_size bounds what one request gets."),
        ({"shared": False}, "Is the budget for all together"),
        ({"decode_counts": False}, "Is the budget for all together"),
        ({"waiting_first": True}, "Running requests come first."),
        ({"holding": False}, "Do running requests hold seats, too?"),
        ({"seated": False}, "Do running requests hold seats, too?"),
        ({"overtake": True}, "Does one request overtake another"),
        ({"memory": False}, "Are the free pages looked at"),  # the article's
        ({"pages": math.floor}, "Is the number of pages rounded up?"),
        ({"taken": False}, "share taken off the free pages?"),
        ({"whole": False}, "for what it lacks, or for a chunk?"),
        ({"pages": lambda x: math.floor(x) + 1}, "when a text fills its pages?"),
    ],
)
def test_3_wrong(options, words):
    refuses(lab05.check_plan, lambda **given: plan(**given, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: "ab", "expected a list of pairs"),
        (lambda **_: [("nobody", 3)], "expected pairs"),
        (lambda **_: [("d", 3.0)], "expected pairs"),
        (lambda **_: [("d", True)], "expected pairs"),
        (lambda **_: [(["d"], 3)], "expected pairs"),
        (lambda **_: ["d"], "expected pairs"),
        (lambda **_: [], "turned away without need?"),
        (lambda **given: plan(**given) * 2, "stand in it twice?"),
        (lambda **given: [(name, -n) for name, n in plan(**given)], "with 0, or less?"),
        (lambda **given: plan(**given)[::-1], "Running requests come first."),
        (lambda **given: [(name, 1) for name, _ in plan(**given)], "what is left of the budget used?"),
        (lambda **given: given["waiting"].clear() or plan(**given), "it changed its input"),
        (3, "expected a function"),
    ],
)
def test_3_wrong_in_kind(answer, words):
    refuses(lab05.check_plan, answer, words)


def test_3_serving_with_the_plan():
    lengths = [(5, 3), (2, 1), (9, 2)]
    assert lab05.serve(plan, lengths, 100, 100, 8) == [16, 2, 1]
    assert lab05.serve(plan, lengths, 100, 4, 2) == [6, 5, 5, 2, 1]
    with pytest.raises(CheckFailed, match="computes nothing"):
        lab05.serve(lambda *_: [], lengths, 100, 100, 8)


def chunk(num_params, kv_bytes, decoding, context, target, peak, bandwidth, *, combine=max, ops=2, rounding=math.floor,
          spoken=1, lowest=0, cache=1, read=True):  # fmt: skip
    """The right answer by trying out, and with one of the options changed a wrong one."""
    reading = (2 * num_params + cache * kv_bytes * context * decoding) / bandwidth
    if read and reading > target:
        return 0
    computing = target if combine is max else target - reading
    return max(lowest, rounding(computing * peak / (ops * num_params)) - spoken * decoding)


def test_4_right(capsys):
    accepts(lab05.check_chunk, chunk, capsys)

    def by_trial(num_params, kv_bytes, decoding, context, target, peak, bandwidth):
        reading = (2 * num_params + kv_bytes * context * decoding) / bandwidth
        n = 0
        while max(reading, 2 * num_params * (decoding + n + 1) / peak) <= target:
            n += 1
        return float(n)

    accepts(lab05.check_chunk, by_trial, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"read": False}, "Reading alone takes longer than the target."),
        ({"cache": 0}, "Reading alone takes longer than the target."),
        ({"spoken": 0}, "Is there room for their tokens?"),
        ({"rounding": math.ceil}, "Is a chunk a whole number"),
        ({"rounding": float}, "Is a chunk a whole number"),
        ({"lowest": -(10**6)}, "A chunk is never negative."),
        ({"combine": sum}, "Do their times add up?"),
        ({"ops": 1}, "Are both counted?"),
    ],
)
def test_4_wrong(options, words):
    refuses(lab05.check_chunk, lambda **given: chunk(**given, **options), words)


@pytest.mark.parametrize(("answer", "words"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_4_no_number(answer, words):
    refuses(lab05.check_chunk, answer, words)
