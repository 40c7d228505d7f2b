"""Lab 7: every wrong answer is refused with the message meant for it, every right one is accepted."""

import math

import pytest
import torch

from helpers.checks import lab07
from helpers.checks.machinery import limit
from tests.labs.answers import NO_NUMBER, accepts, refuses, unwritten

NONE = -math.inf


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 2.0)


def traffic(q_len, kv_len, head_dim, query_block, element_bytes, *, again=True, short=True, queries=1, results=1, values=1,
            elements=False, scores=0, shared=True):  # fmt: skip
    """The right answer, block by block, and with one of the options changed a wrong one."""
    vectors, size = 0, query_block if shared else 1
    for start in range(0, q_len, size):
        block = min(size, q_len - start)
        vectors += (queries + results) * block
        if (again or not start) and (short or block == size):
            vectors += (1 + values) * kv_len
    moved = vectors * head_dim + scores * q_len * kv_len
    return moved if elements else moved * element_bytes


def test_1_right(capsys):
    accepts(lab07.check_traffic, traffic, capsys)
    accepts(lab07.check_traffic, lambda **given: float(traffic(**given)), capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"again": False}, "Can a core keep all keys and values?"),  # traffic grows with the length alone
        ({"short": False}, "The last block of queries may be shorter."),
        ({"results": 0}, "Queries are read, and a result is written."),
        ({"queries": 0}, "Queries are read, and a result is written."),
        ({"values": 0}, "Keys are read, and values too."),
        ({"elements": True}, "Are these bytes, or elements?"),
        ({"scores": 2}, "Do scores ever leave the core?"),
        ({"shared": False}, "A block of queries shares one reading of the keys."),
    ],
)
def test_1_wrong(options, words):
    refuses(lab07.check_traffic, lambda **given: traffic(**given, **options), words)


@pytest.mark.parametrize(("answer", "words"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_1_no_number(answer, words):
    refuses(lab07.check_traffic, answer, words)


def update(maximum, total, weighted, scores, values, *, running=True, old_total=True, old_weighted=True, upside_down=False,
           subtract=True, guarded=True, cast=lambda x: x, divide=False, state=lambda x: x):  # fmt: skip
    """The right answer query by query, and with one of the options changed a wrong one."""
    rows = []
    for m, t, w, s in zip(maximum[:, 0], total[:, 0], weighted, scores.float(), strict=True):
        largest = torch.max(m, s.max()) if running else s.max()
        base = torch.tensor(0.0) if guarded and bool(largest == NONE) else largest
        factor = torch.exp(base - m if upside_down else m - base)
        p = cast(torch.exp(s - base if subtract else s)).float()
        new_total = (t * factor if old_total and subtract else t) + p.sum()
        new_weighted = (w * factor if old_weighted and subtract else w) + p @ values.float()
        rows.append((largest[None], new_total[None], new_weighted / new_total if divide else new_weighted))
    return tuple(state(torch.stack(part)) for part in zip(*rows, strict=True))


def by_concatenation(maximum, total, weighted, scores, values):
    """Another right answer: what was before counts as one more key."""
    whole = torch.cat((maximum, scores.float()), dim=1)
    new = whole.max(dim=1, keepdim=True).values
    p = torch.nan_to_num(whole - new, nan=NONE).exp()
    ones = torch.cat((total, torch.ones_like(scores, dtype=torch.float32)), dim=1)
    return [new, (p * ones).sum(1, keepdim=True), p[:, :1] * weighted + p[:, 1:] @ values.float()]


def test_2_right(capsys):
    accepts(lab07.check_update, update, capsys)
    accepts(lab07.check_update, by_concatenation, capsys)


def never_larger(maximum, total, weighted, scores, values):
    """It keeps the maximum that it has once it has one."""
    right = update(maximum, total, weighted, scores, values)
    first = maximum == NONE
    base = torch.where(first, right[0], maximum)
    p = torch.exp(scores.float() - torch.where(base == NONE, 0.0, base))
    return base, total + p.sum(1, keepdim=True), weighted + p @ values.float()


def product_in_half(maximum, total, weighted, scores, values):
    """Weights are rounded for the second product, as fast kernels do."""
    new, total, _ = update(maximum, total, weighted, scores, values)
    base = torch.where(new == NONE, 0.0, new)
    p = torch.exp(scores.float() - base).half().float()
    return new, total, weighted * torch.exp(maximum - base) + p @ values.float()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"old_total": False}, "Is the old sum brought to the new one?"),
        ({"old_weighted": False}, "Are the old weighted values brought to the new one?"),
        ({"old_total": False, "old_weighted": False}, "Is anything of it brought to the new one?"),
        ({"running": False}, "of this block alone, or of all keys so far?"),
        ({"upside_down": True}, "Is the difference taken the right way round?"),
        ({"subtract": False}, "Is the maximum subtracted before exp?"),
        ({"guarded": False}, "What is minus infinity minus minus infinity?"),
        ({"cast": torch.Tensor.half}, "Is something computed in half precision?"),
        ({"cast": torch.Tensor.bfloat16}, "total: wrong values"),
        ({"divide": True}, "Is the division made in every step?"),
        ({"state": torch.Tensor.half}, "Statistics are fp32, whatever the scores are."),
        ({"state": torch.Tensor.double}, "Statistics are fp32, whatever the scores are."),
        ({"state": torch.Tensor.squeeze}, "keep their own dimension?"),
    ],
)
def test_2_wrong(options, words):
    refuses(lab07.check_update, lambda **given: update(**given, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (never_larger, "Does the maximum take the new block in?"),
        (product_in_half, "Is something computed in half precision?"),
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **given: update(**given)[:2], "expected three tensors: maximum, total, weighted"),
        (lambda **given: [float(t.sum()) for t in update(**given)], "expected three tensors"),
        (lambda maximum, total, **_: (maximum.copy_(total), total, total), "it changed its input"),
        (lambda **given: (given["maximum"], *update(**given)[1:]), "maximum: wrong values"),
        (lambda **given: (*update(**given)[:2], math.nan * given["weighted"]), "There is a NaN."),
        (lambda maximum, total, weighted, scores, values: (maximum, total, (scores - maximum).exp() @ values[None, 0]),
         "it raised RuntimeError"),
        (3, "expected a function"),
    ],
)  # fmt: skip
def test_2_wrong_in_kind(answer, words):
    refuses(lab07.check_update, answer, words)


def tiles(q_len, kv_len, query_block, key_block, *, shift=None, seen=any, mask=all, strict=False, past_end=False,
          by_keys=False, skip=True, by_first=False):  # fmt: skip
    """The right answer from the matrix of who sees whom, and with one of the options changed a wrong one."""
    shift = kv_len - q_len if shift is None else shift
    width = kv_len + key_block if past_end else kv_len
    sees = [[k <= q + shift - strict for k in range(width)] for q in range(q_len)]
    found = []
    for q in range(0, q_len, query_block):
        for k in range(0, kv_len, key_block):
            tile = [row[k : k + key_block] for row in sees[q : q + query_block]]
            if not skip or seen(any(row) for row in (tile[:1] if by_first else tile)):
                found.append((q, k, not mask(all(row) for row in tile)))
    return sorted(found, key=lambda tile: tile[1::-1]) if by_keys else found


def one_too_many(q_len, kv_len, query_block, key_block):
    """It goes on to the end of the block that begins right behind the last query's place."""
    whole = tiles(q_len, kv_len, query_block, key_block, skip=False)
    ends = {q: min(q + query_block, q_len) + kv_len - q_len for q, *_ in whole}
    return [tile for tile in whole if tile[1] <= ends[tile[0]]]


def test_3_right(capsys):
    accepts(lab07.check_tiles, tiles, capsys)
    accepts(lab07.check_tiles, lambda **given: [list(tile) for tile in tiles(**given)], capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shift": 0}, "The last query sees the last key, not the first query the first key."),
        ({"skip": False}, "Some tiles lie wholly behind what their queries see."),
        ({"by_first": True}, "A tile that the last one sees in part must be computed."),
        ({"strict": True}, "A query sees its own position, too."),
        ({"by_keys": True}, "The order: block of queries by block of queries"),
        ({"mask": lambda rows: False}, "needs no mask. Which query decides?"),
        ({"mask": lambda rows: True}, "In a tile at the edge, some queries do not see some keys."),
        ({"mask": lambda rows: list(rows)[-1]}, "Which query of a block sees least?"),
        ({"past_end": True}, "The last block of keys may be shorter."),
    ],
)
def test_3_wrong(options, words):
    refuses(lab07.check_tiles, lambda **given: tiles(**given, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (one_too_many, "Is one tile too few skipped?"),
        (lambda **given: tiles(**given)[1:], "Is a tile left out, or one there that no query sees?"),
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 3, "expected a list of (q_start, k_start, masked)"),
        (lambda **given: [tile[:2] for tile in tiles(**given)], "expected three things for each tile"),
        (lambda **given: [(q, k, "masked") for q, k, _ in tiles(**given)], "masked: expected True or False"),
        (lambda **given: [(str(q), None, m) for q, k, m in tiles(**given)], "not these tiles"),
        ((), "expected a function"),
    ],
)
def test_3_wrong_in_kind(answer, words):
    refuses(lab07.check_tiles, answer, words)


def merge(out_a, lse_a, out_b, lse_b, *, weight=lambda n: float(torch.tensor(n).exp()), normal=True, lse=None, shifted=True, guarded=True, swapped=False,
          winner=False):  # fmt: skip
    """The right answer query by query, and with one of the options changed a wrong one."""
    outs, lses = [], []
    for x, a, y, b in zip(out_a.float(), lse_a.tolist(), out_b.float(), lse_b.tolist(), strict=True):
        top = max(a, b) if shifted else 0.0
        if top == NONE and guarded:
            top = 0.0
        p, q = (safe(weight, n - top) for n in (a, b))
        if winner:
            p, q = float(p >= q), float(p < q)
        p, q = (q, p) if swapped else (p, q)
        total = torch.tensor(p + q)
        outs.append((p * x + q * y) / (total if normal and (p + q or not guarded) else 1.0))
        lses.append(lse(a, b) if lse else float(total.log()) + top)
    return torch.stack(outs), torch.tensor(lses)


def safe(function, number):
    """What torch's arithmetic gives, which raises nothing."""
    try:
        return float(function(number))
    except (OverflowError, ValueError):
        return math.inf if number > 0 else math.nan


def by_softmax(out_a, lse_a, out_b, lse_b):
    """Another right answer: the shares are a softmax of two scores, and its NaN, where there are none, 0."""
    out_a, lse_a, out_b, lse_b = (part.float() for part in (out_a, lse_a, out_b, lse_b))
    shares = torch.stack((lse_a, lse_b)).softmax(dim=0).nan_to_num(0.0)
    return [torch.einsum("pq,pqd->qd", shares, torch.stack((out_a, out_b))), torch.stack((lse_a, lse_b)).logsumexp(0)]  # fmt: skip


def test_4_right(capsys):
    accepts(lab07.check_merge, merge, capsys)
    accepts(lab07.check_merge, by_softmax, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": lambda n: 1.0}, "Do both parts count the same"),
        ({"weight": lambda n: 1.0, "normal": False}, "Do both parts count the same"),
        ({"weight": lambda n: n, "shifted": False}, "The lse is a logarithm."),
        ({"normal": False, "shifted": False}, "Do the two shares come to 1?"),
        ({"winner": True}, "Does the part with the larger lse count alone?"),
        ({"swapped": True}, "Has each part its own share"),
        ({"shifted": False}, "exp of a large number is infinite"),
        ({"guarded": False}, "What is minus infinity minus minus infinity?"),
        ({"lse": lambda a, b: a + b}, "The parts' exp(lse) add up, not their lse."),
        ({"lse": lambda a, b: (a + b) / 2}, "The parts' exp(lse) add up, not their lse."),
        ({"lse": max}, "Is that the larger of the two"),
        ({"lse": lambda a, b: math.exp(a) + math.exp(b)}, "Is the logarithm missing?"),
        ({"lse": lambda a, b: float(sum(torch.tensor([a, b]).exp()).log())}, "exp of a large number is infinite"),
    ],
)  # fmt: skip
def test_4_wrong(options, words):
    refuses(lab07.check_merge, lambda **given: merge(**given, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **given: merge(**given)[0], "expected two tensors: out, lse"),
        (lambda **given: (merge(**given)[0], merge(**given)[1][:, None]), "lse: wrong in shape"),
        (lambda **given: tuple(t.half() for t in merge(**given)), "out: wrong in type"),
        (lambda out_a, lse_a, out_b, lse_b: (out_a, lse_a.add_(1.0)), "it changed its input"),
        (None, "expected a function"),
    ],
)
def test_4_wrong_in_kind(answer, words):
    refuses(lab07.check_merge, answer, words)


def choose(head_dim, l0a, l0b, l0c, l1, ub, *, without=(), step=16, result_bytes=4, kv_blocks=2, weights_left=True,
           powers=False, best=None, vectors=2, unit=1):  # fmt: skip
    """The right answer from the largest block of queries down, and with one of the options changed a wrong one."""
    sizes = range(step, 2049, step)
    if powers:
        sizes = [2**n for n in range(4, 12)]

    def fits(q, k):
        wide = max(head_dim, k)
        need = {
            "l0a": 2 * q * (wide if weights_left else head_dim),
            "l0b": 2 * k * head_dim,
            "l0c": result_bytes * q * wide,
            "l1": 2 * (q * head_dim + q * k + 2 * kv_blocks * k * head_dim),
            "ub": 6 * q * k // vectors,
        }
        have = dict(l0a=l0a, l0b=l0b, l0c=l0c, l1=l1, ub=ub)
        return all(need[name] * unit <= have[name] for name in have if name not in without)

    found = None
    for q in sizes:
        for k in sizes:
            if not fits(q, k):
                break
            if found is None or (best or (lambda tile: tile))((q, k)) > (best or (lambda tile: tile))(found):
                found = q, k
    return found


def test_5_right(capsys):
    accepts(lab07.check_choose, choose, capsys)
    accepts(lab07.check_choose, lambda **given: choose(**given) and list(choose(**given)), capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"without": ("l0a",)}, "of L0A, which has"),
        ({"weights_left": False}, "What stands left in the second one?"),
        ({"without": ("l0b",)}, "of L0B, which has"),
        ({"without": ("l0c",)}, "of L0C, which has"),
        ({"result_bytes": 2}, "L0C holds the results of both products, and in which type?"),
        ({"without": ("l1",)}, "of L1, which has"),
        ({"kv_blocks": 1}, "two blocks of keys and two of values. Are all counted?"),
        ({"without": ("ub",)}, "of UB, which has"),
        ({"step": 8}, "The cube unit multiplies pieces of 16 x 16."),
        ({"step": 4}, "The cube unit multiplies pieces of 16 x 16."),
        ({"powers": True}, "Are only powers of two tried?"),
        ({"best": lambda tile: tile[::-1]}, "Which of the two sizes decides how often keys and values are read?"),
        ({"best": lambda tile: (tile[0] == tile[1], tile)}, "Which of the two sizes decides"),
        ({"best": lambda tile: (tile[0], -tile[1])}, "is there room for more keys in each step?"),
        ({"unit": 2}, "Does a tile take twice as much?"),
        ({"vectors": 1}, "a larger block of"),
    ],
)  # fmt: skip
def test_5_wrong(options, words):
    refuses(lab07.check_choose, lambda **given: choose(**given, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 128, "expected two whole numbers from 1, or None"),
        (lambda **_: (128.0, 64), "expected two whole numbers from 1, or None"),
        (lambda **_: (True, 64), "expected two whole numbers from 1, or None"),
        (lambda **_: (0, 64), "expected two whole numbers from 1, or None"),
        (lambda **given: choose(**given) or (16, 16), "which has"),
        (lambda **given: choose(**given) or (0, 0), "expected two whole numbers from 1, or None"),
        ("128", "expected a function"),
    ],
)
def test_5_wrong_in_kind(answer, words):
    refuses(lab07.check_choose, answer, words)
