"""Lab 9: every wrong answer is refused with the message meant for it, every right one is accepted."""

import itertools
from collections import OrderedDict, deque

import pytest
import torch

from helpers.checks import lab09
from helpers.checks.machinery import limit
from tests.labs.answers import NO_NUMBER, accepts, endless, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 2.0)


def count(groups, sizes, needed, *, reads="outside", writes="seen later", twice=False, launches=len):
    """The right answer, with sets of names, and with one of the options changed a wrong one."""
    moved = 0
    for place, group in enumerate(groups):
        made = [one["writes"] for one in group]
        names = [name for one in group for name in one["reads"]]
        names = names if reads == "all" else [name for name in names if name not in made]
        names = names if twice else list(dict.fromkeys(names))
        behind = [name for other in groups[place + 1 :] for one in other for name in one["reads"]]
        kept = {
            "seen later": [m for m in made if m in behind or m in needed],
            "needed": [m for m in made if m in needed],
            "behind": [m for m in made if m in behind],
            "all": made,
            "last": made[-1:],
            "none": [],
        }[writes]
        moved += sum(sizes[name] for name in [*({} if reads == "none" else names), *kept])
    return launches(groups), moved


def test_1_right(capsys):
    accepts(lab09.check_count, count, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"launches": lambda groups: sum(map(len, groups))}, "Are its operators counted one by one?"),
        (
            {"launches": lambda groups: len([g for g in groups if len(g) > 1])},
            "Are only the fused ones counted?",
        ),
        ({"reads": "all"}, "What is made inside a kernel is not read from memory."),
        ({"reads": "all", "writes": "all"}, "What is made inside a kernel stays there."),
        ({"writes": "all"}, "Does everything that a kernel makes go to memory?"),
        ({"writes": "needed"}, "What a later kernel reads must be in memory."),
        ({"writes": "behind"}, "What is needed at the end must be in memory."),
        ({"writes": "last"}, "Is it only the last one?"),
        ({"writes": "none"}, "Are writes counted?"),
        ({"reads": "none"}, "Are reads counted?"),
        ({"twice": True}, "Is one counted twice?"),
    ],
)
def test_1_wrong(options, words):
    refuses(lab09.check_count, lambda **case: count(**case, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 3, "expected two numbers"),
        (lambda **_: (1, 2.5), "bytes: expected a whole number"),
        (lambda groups, sizes, needed: groups.clear() or (0, 0), "it changed its input"),
        (endless, "Is there a loop that never ends?"),
    ],
)
def test_1_wrong_in_kind(answer, words):
    refuses(lab09.check_count, answer, words)


def norm(x, residual, weight, eps):
    """The right answer, by way of torch's own operator, spending the residual."""
    total = residual.add_(x)
    return torch.nn.functional.rms_norm(total.float(), weight.shape, weight.float(), eps).to(x.dtype), total


def parts(x, residual, weight, eps, *, total=None, mean=None, scale=None, carried=None, product=None):
    """The right answer step by step; with a step replaced, a wrong one."""
    t = (total or (lambda a, b: a + b))(x, residual)
    wide = t.float()
    square = (mean or (lambda w: w.pow(2).mean(-1, keepdim=True)))(wide)
    root = (scale or (lambda s, e: (s + e).sqrt()))(square, eps)
    out = (product or (lambda n, w: n * w))(wide / root, weight.float()).to(x.dtype)
    return out, (carried or (lambda x, r, n: x + r))(x, residual, out)


def test_2_right(capsys):
    accepts(lab09.check_norm, norm, capsys)
    accepts(lab09.check_norm, parts, capsys)
    accepts(lab09.check_norm, lambda x, residual, weight, eps: (  # rounded before the weight, as transformers does
        weight * ((t := x + residual).float() * torch.rsqrt(t.float().pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype), t), capsys)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"carried": lambda x, r, n: r}, "Is x, or the residual, lost?"),
        ({"carried": lambda x, r, n: x}, "Is x, or the residual, lost?"),
        ({"carried": lambda x, r, n: n}, "Is it the normed one?"),
        ({"scale": lambda s, e: s.sqrt() + e}, "Is your epsilon inside the square root?"),
        ({"scale": lambda s, e: s.sqrt()}, "A row of zeros has the mean square 0."),
        ({"scale": lambda s, e: s + e}, "Is the root taken of the mean square?"),
        ({"scale": lambda s, e: (s + e).rsqrt()}, "Is it divided by the root, or multiplied with it?"),
        ({"total": lambda x, r: x}, "or of x alone?"),
        ({"total": lambda x, r: r}, "or of the residual alone?"),
        ({"mean": lambda w: w.pow(2).sum(-1, keepdim=True)}, "or their sum?"),
        ({"mean": lambda w: w.pow(2).mean()}, "Is it taken over the last dimension alone?"),
        ({"product": lambda n, w: n}, "Is the weight multiplied?"),
        ({"product": lambda n, w: n * (1 + w)}, "Is 1 added to the weight?"),
    ],
)
def test_2_wrong(options, words):
    refuses(lab09.check_norm, lambda **case: parts(**case, **options), words)


def half_mean(x, residual, weight, eps):
    total = x + residual
    return total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + eps) * weight, total


def layer_norm(x, residual, weight, eps):
    total = x + residual
    centred = total.float() - total.float().mean(-1, keepdim=True)
    return (centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight).to(x.dtype), total


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (half_mean, "Is the mean taken in fp32?"),
        (layer_norm, "Is that a layer norm?"),
        (lambda **case: tuple(t.float() for t in norm(**case)), "The result has the type of x."),
        (lambda **case: norm(**case)[0], "expected two tensors: normed, total"),
        (lambda **case: None, "Is a return missing?"),
        (lambda x, **case: norm(x.mul_(1.5), **case), "it changed its input"),
        (unwritten, "not done yet"),
    ],
)
def test_2_wrong_in_kind(answer, words):
    refuses(lab09.check_norm, answer, words)


def padded(histogram, sizes):
    return sum((min(s for s in sizes if s >= b) - b) * n for b, n in histogram.items())


def sizes_by_table(histogram, count):
    """The right answer from a table: the least padding up to each batch with so many sizes."""
    batches = sorted(histogram)
    table = {(0, -1): (0, ())}
    for left, last in itertools.product(range(1, count + 1), range(len(batches))):
        ways = []
        for before in range(-1, last):
            if (left - 1, before) in table:
                cost = sum((batches[last] - b) * histogram[b] for b in batches[before + 1 : last + 1])
                old, sizes = table[left - 1, before]
                ways.append((old + cost, (*sizes, batches[last])))
        if ways:
            table[left, last] = min(ways)
    return min(entry for (_, last), entry in table.items() if last == len(batches) - 1)[1]


def with_largest(rule):
    """Sizes by a rule for the others, the largest batch among them."""
    return lambda histogram, count: [*rule(sorted(histogram)[:-1], histogram, count - 1), max(histogram)]


def greedy(histogram, count):
    sizes = [max(histogram)]
    for _ in range(min(count, len(histogram)) - 1):
        sizes.append(
            min((b for b in histogram if b not in sizes), key=lambda b: (padded(histogram, [*sizes, b]), b))
        )
    return sizes


def as_if_one_step(histogram, count):
    return sizes_by_table(dict.fromkeys(histogram, 1), count)


def test_3_right(capsys):
    accepts(lab09.check_sizes, sizes_by_table, capsys)
    accepts(lab09.check_sizes, lambda histogram, count: set(sizes_by_table(histogram, count)), capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda histogram, count: sorted(histogram)[-count:], "Are these the largest batches?"),
        (with_largest(lambda others, h, n: sorted(others, key=lambda b: (-h[b], b))[:n]), "Are these the most frequent batches?"),
        (lambda histogram, count: [-(-max(histogram) * i // count) for i in range(1, count + 1)], "Are the sizes spread evenly?"),
        (greedy, "What was best alone may not be so in company."),
        (as_if_one_step, "Is each batch counted once?"),
        (lambda histogram, count: [max(histogram)], "That is one size for all."),
        (lambda histogram, count: [min(histogram)], "the largest batch fits into no size"),
        (lambda histogram, count: sorted(histogram), "sizes, and"),
        (lambda histogram, count: [], "the largest batch fits into no size"),
        (lambda histogram, count: None, "Is a return missing?"),
        (lambda histogram, count: max(histogram), "expected a list of whole numbers"),
        (lambda histogram, count: histogram.popitem(), "it changed its input"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_3_wrong(answer, words):
    refuses(lab09.check_sizes, answer, words)


def stale(first, second, *, kinds=("memory", "numbers"), start=0, differs=lambda a, b: a != b, refuses=True):
    """The right answer, by walking both at once, and with one of the options changed a wrong one."""
    found = set()
    if refuses and len(first) != len(second):
        raise ValueError("lengths")
    for i, (a, b) in enumerate(zip(first, second, strict=False), start):
        if refuses and a["operator"] != b["operator"]:
            raise ValueError(i)
        found |= {
            (i, n) for kind in kinds for n in a[kind] if n in b[kind] and differs(a[kind][n], b[kind][n])
        }
    return found


def test_4_right(capsys):
    accepts(lab09.check_stale, stale, capsys)
    accepts(lab09.check_stale, lambda first, second: sorted(map(list, stale(first, second)))[::-1], capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda **case: stale(**case, kinds=("numbers",)), "Are addresses compared?"),
        (lambda **case: stale(**case, kinds=("memory",)), "Are numbers compared?"),
        (lambda **case: stale(**case, start=1), "Are launches counted from 0?"),
        (lambda **case: stale(**case, differs=lambda a, b: a == b), "Which ones change?"),
        (lambda **case: sorted(stale(**case))[:1], "Does the search end at the first one?"),
        (lambda **case: stale(**case, differs=lambda a, b: not isinstance(a, list) and b > a), "Is only growth found?"),
        (lambda **case: stale(**case, differs=lambda a, b: not isinstance(a, list) and a != b), "A list of lengths is an argument, too."),
        (lambda **case: stale(**case, refuses=False), "expected ValueError"),
        (lambda **case: [name for _, name in stale(**case)], "expected a list of pairs"),
        (lambda **case: None, "Is a return missing?"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_4_wrong(answer, words):
    if words == "expected ValueError":
        words = "these captures are of two different steps"
    refuses(lab09.check_stale, answer, words)


def test_4_a_refusal_of_equal_steps_is_wrong():
    def picky(first, second):
        if first != second:
            raise ValueError
        return []

    refuses(lab09.check_stale, picky, "these captures are of one step, and it refused them")


def lines(rows, columns, tile, per_line, kept, *, at=None, ends=None, starts=None, fresh=True):
    """The right answer with an ordered dictionary; with one of the options changed, a wrong one."""
    at = at or (lambda row, column: row * columns + column)
    cache, fetches = OrderedDict(), 0
    for start in (starts or (lambda: range(0, columns, tile)))():
        for row in range(rows):
            for column in range(start, (ends or (lambda start: min(start + tile, columns)))(start)):
                line = at(row, column) // per_line
                fetches += line not in cache
                if fresh or line not in cache:
                    cache[line] = True
                    cache.move_to_end(line)
                while len(cache) > kept:
                    cache.popitem(last=False)
    return fetches


def test_5_right(capsys):
    accepts(lab09.check_lines, lines, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda rows, columns, **_: rows * columns, "Is every number fetched anew?"),
        (lambda rows, columns, per_line, **_: -(-rows * columns // per_line), "Does it forget?"),
        (lambda **case: lines(**case, fresh=False), "Which line is forgotten"),
        (lambda **case: lines(**case, at=lambda row, column: column * case["rows"] + row), "Is the matrix laid out by columns here?"),
        (lambda **case: lines(**{**case, "tile": 1}), "This goes down one column after the other."),
        (lambda **case: lines(**{**case, "tile": case["columns"]}), "Does it forget?"),
        (lambda **case: lines(**case, starts=lambda: range(0, case["columns"] - case["columns"] % case["tile"], case["tile"])), "Is it left out?"),
        (lambda **case: lines(**case, ends=lambda start: start + case["tile"]), "Does it go beyond?"),
        (lambda **case: lines(**{**case, "kept": case["kept"] + 1}), "Does the cache hold exactly"),
        (lambda **case: lines(**{**case, "kept": max(1, case["kept"] // case["per_line"])}), "Is it divided?"),
        (lambda **case: lines(**case, at=lambda row, column: row * -(-case["columns"] // case["per_line"]) * case["per_line"] + column),
         "Does each row begin a new one?"),
    ],
)  # fmt: skip
def test_5_wrong(answer, words):
    refuses(lab09.check_lines, answer, words)


@pytest.mark.parametrize(
    "what",
    [w for w in NO_NUMBER if w in ("stub", "nothing returned", "text", "a tensor", "no end", "recursion")],
)
def test_5_no_number(what):
    answer, words = NO_NUMBER[what]
    words = words.replace("expected a number,", "expected a number of lines").partition(" got")[0]
    refuses(lab09.check_lines, answer, words)


def test_5_a_deque_is_right_too(capsys):
    def with_deque(rows, columns, tile, per_line, kept):
        cache, fetches = deque(), 0
        for start in range(0, columns, tile):
            for row, column in itertools.product(range(rows), range(start, min(start + tile, columns))):
                line = (row * columns + column) // per_line
                if line in cache:
                    cache.remove(line)
                else:
                    fetches += 1
                cache.append(line)
                if len(cache) > kept:
                    cache.popleft()
        return fetches

    accepts(lab09.check_lines, with_deque, capsys)
