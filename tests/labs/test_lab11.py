"""Lab 11: every wrong answer is refused with the message meant for it, every right one is accepted."""

import itertools
import math

import numpy as np
import pytest
import torch

from helpers.checks import lab11
from helpers.checks.machinery import limit
from tests.labs.answers import NO_NUMBER, accepts, endless, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 4.0)


def shared(count, world, rank):
    """A rank's numbers, as numpy shares them out."""
    return np.array_split(np.arange(count), world)[rank].tolist()


def rows(
    heads, kv_heads, head_dim, world, rank, *, kv=shared, q=None, starts=None, parts=(0, 1, 2), size=None
):
    """The right answer by way of a table of heads; with one of the options changed, a wrong one."""
    own = kv(kv_heads, world, rank)
    group = heads // kv_heads
    queries = q(heads, world, rank) if q else [head for head in range(heads) if head // group in own]
    first = (starts or (lambda heads, kv_heads, head_dim: (0, heads, heads + kv_heads)))(
        heads, kv_heads, head_dim
    )
    table = torch.arange(2 * (heads + 2 * kv_heads) * head_dim).reshape(-1, head_dim)
    chosen = [first[part] + head for part in parts for head in (queries, own, own)[part]]
    return table[chosen].flatten().tolist() if size is None else chosen


def in_pieces(heads, kv_heads, head_dim, world, rank):
    return shared((heads + 2 * kv_heads) * head_dim, world, rank)


def test_1_right(capsys):
    accepts(lab11.check_rows, rows, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 1}, "A head has `head_dim` rows."),
        ({"kv": lambda count, world, rank: list(range(count))}, "Does this one have all of them?"),
        ({"q": shared}, "Which query heads read this rank's KV heads?"),
        ({"q": lambda count, world, rank: list(range(rank * count // world, (rank + 1) * count // world))}, "Which query heads read"),
        ({"kv": lambda count, world, rank: list(range(rank, count, world))}, "Are they dealt in turn?"),
        ({"kv": lambda count, world, rank: [count - 1 - i for i in shared(count, world, world - 1 - rank)][::-1]}, "Is it the last ones?"),
        ({"kv": lambda count, world, rank: list(range(count))[rank * (count // world) : None if rank == world - 1 else (rank + 1) * (count // world)]},
         "Does the last rank get all that is left?"),
        ({"kv": lambda count, world, rank: list(range(count))[rank * (count // world) :][: count // world]}, "Are some heads with no rank?"),
        ({"kv": lambda count, world, rank: list(range(count))[rank * -(-count // world) :][: -(-count // world)]}, "Do the last ranks have enough?"),
        ({"kv": lambda count, world, rank: list(range(rank * count // world, (rank + 1) * count // world))}, "are the larger parts elsewhere?"),
        ({"starts": lambda h, kv, d: (0, 0, h + kv)}, "Keys come after all queries."),
        ({"starts": lambda h, kv, d: (0, h, h)}, "Values come after all keys."),
        ({"starts": lambda h, kv, d: (0, h, 2 * h)}, "Values come after all keys."),
        ({"parts": (0,)}, "Does a rank need keys and values, too?"),
        ({"parts": (0, 1)}, "Does a rank need queries, keys and values?"),
        ({"parts": (1, 2, 0)}, "Do queries come first, then keys, then values?"),
        ({"parts": (2, 1, 0)}, "Do queries come first, then keys, then values?"),
    ],
)  # fmt: skip
def test_1_wrong(options, words):
    refuses(lab11.check_rows, lambda **case: rows(**case, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (in_pieces, "Is the matrix cut into pieces, one after the other?"),
        (lambda heads, kv_heads, head_dim, world, rank: [row for row in range((heads + 2 * kv_heads) * head_dim)
                                                          if row // head_dim in shared(heads + 2 * kv_heads, world, rank)],
         "Is the matrix cut into pieces, one after the other?"),
        (lambda heads, kv_heads, head_dim, world, rank: [start + row for start, n in ((0, heads), (heads, kv_heads), (heads + kv_heads, kv_heads))
                                                          for start in [start * head_dim] for row in shared(n * head_dim, world, rank)],
         "Are pieces cut through a head?"),
        (lambda rank, **case: rows(rank=rank - 1, **case), "Ranks are counted from 0."),
        (lambda **case: [row + 1000 for row in rows(**case)], "The matrix has rows 0 to"),
        (lambda **case: None, "Is a return missing?"),
        (lambda **case: 7, "expected a list of whole numbers, the rows"),
        (lambda **case: [0.5], "expected a list of whole numbers, the rows"),
        (endless, "Is there a loop that never ends?"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_1_wrong_in_kind(answer, words):
    refuses(lab11.check_rows, answer, words)


def mlp(x, residual, up, down, bias, rank, all_reduce):
    """The right answer, where the first rank adds what is whole."""
    product = torch.einsum("th,ch,dc->td", x, up, down) * 0 + (x @ up.mT).clamp(min=0) @ down.mT
    return all_reduce(product + (residual + bias if rank == 0 else 0))


def own(x, up, down, relu=torch.relu):
    return relu(x @ up.T) @ down.T


def test_2_right(capsys):
    accepts(lab11.check_mlp, mlp, capsys)
    accepts(lab11.check_mlp, lambda x, residual, up, down, bias, rank, all_reduce: (
        residual.add_(bias).add_(all_reduce(own(x, up, down)))), capsys)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, r, u, d, b, rank, s: r + own(x, u, d) + b, "Are the products summed, and is the sum used?"),
        (lambda x, r, u, d, b, rank, s: r + own(x, u, d), "Are the products summed, and is the sum used?"),
        (lambda x, r, u, d, b, rank, s: r + s(own(x, u, d) + b), "The bias is added by every rank before the sum."),
        (lambda x, r, u, d, b, rank, s: s(r + own(x, u, d)) + b, "The residual is whole on every rank."),
        (lambda x, r, u, d, b, rank, s: s(r + own(x, u, d) + b), "Bias and residual are whole on every rank."),
        (lambda x, r, u, d, b, rank, s: r + s(own(x, u, d)) + (0 if rank else b), "Then ranks disagree."),
        (lambda x, r, u, d, b, rank, s: s(own(x, u, d)) + (0 if rank else b + r), "Then ranks disagree."),
        (lambda x, r, u, d, b, rank, s: r + s(own(x, u, d)), "Is the bias added?"),
        (lambda x, r, u, d, b, rank, s: s(own(x, u, d)) + b, "Is the residual added?"),
        (lambda x, r, u, d, b, rank, s: r + s(own(s(x), u, d)) + b, "The input is whole on every rank. Is it summed?"),
        (lambda x, r, u, d, b, rank, s: r + own(s(x), u, d) + b, "The input is whole on every rank. Is it summed?"),
        (lambda x, r, u, d, b, rank, s: r + s(own(x, u, d, lambda t: t)) + b, "Is the relu left out?"),
        (lambda x, r, u, d, b, rank, s: r + torch.relu(s(own(x, u, d, lambda t: t))) + b, "Is it after the sum?"),
        (lambda x, r, u, d, b, rank, s: r + s(torch.relu(own(x, u, d, lambda t: t))) + b, "Is it after the second one?"),
        (lambda x, r, u, d, b, rank, s: r + s(own(x, u, d)) + s(b if rank == 0 else 0 * b), "one sum for each MLP is enough"),
        (lambda x, r, u, d, b, rank, s: r + torch.relu(s(x @ u.T)) @ d.T + b, "Is that what is summed?"),
        (lambda x, r, u, d, b, rank, s: r + s(torch.relu(x @ u.T)) @ d.T + b, "Is that what is summed?"),
        (lambda x, r, u, d, b, rank, s: r + s(own(x, u, d)[:, rank and 1 :]) + b, "ranks hand tensors of different shapes to one sum"),
        (lambda x, r, u, d, b, rank, s: r + b + (s(own(x, u, d)) if rank == 0 else own(x, u, d)), "Does every rank ask for it, whatever its number?"),
        (lambda x, r, u, d, b, rank, s: r + sum(s(own(x, u, d)) for _ in range(9)), "more than 6 sums"),
        (lambda x, r, u, d, b, rank, s: s(3), "all_reduce sums tensors"),
        (lambda x, r, u, d, b, rank, s: s(own(x, u, d)).sum(), "rank 0: expected"),
        (lambda x, r, u, d, b, rank, s: None, "Is a return missing?"),
        (lambda x, r, u, d, b, rank, s: b.add_(1) + r + s(own(x, u, d)), "it changed its input"),
    ],
)  # fmt: skip
def test_2_wrong(answer, words):
    def named(x, residual, up, down, bias, rank, all_reduce):
        return answer(x, residual, up, down, bias, rank, all_reduce)

    refuses(lab11.check_mlp, named, words)


def mean_of(x, residual, up, down, bias, rank, all_reduce):
    world = all_reduce(torch.ones(1, x.shape[1])).mean()
    return residual + all_reduce(own(x, up, down)) / world + bias


def test_2_a_mean_and_what_is_no_answer():
    refuses(lab11.check_mlp, mean_of, "Is it the sum of the products, or their mean?")
    refuses(lab11.check_mlp, unwritten, "not done yet")
    refuses(lab11.check_mlp, endless, "Is there a loop that never ends?")


def test_2_a_layer_is_run_as_any_number_of_ranks():
    layer = {
        "x": torch.ones(2, 4),
        "residual": torch.ones(2, 4),
        "up": torch.eye(4),
        "down": torch.eye(4),
        "bias": torch.ones(4),
    }
    for world in (1, 3, 4):
        streams = lab11.as_ranks(mlp, layer, world)
        assert [stream.tolist() for stream in streams] == [[[3.0] * 4] * 2] * world


def idle(
    seconds,
    groups,
    passes,
    *,
    token=True,
    alone=True,
    order=None,
    of=None,
    share=lambda used, end, n: 1 - used / (n * end),
):
    """The right answer from a table of ends, and with one of the options changed a wrong one."""
    ends = {}
    count = len(seconds)
    todo = [(p, g) for p in range(passes) for g in range(groups)]
    todo = sorted(todo, key=order) if order else todo
    seconds = [of(seconds)] * count if of else seconds
    for i, (p, g) in enumerate(todo):
        for s in range(count):
            before = [ends[p, g, s - 1]] if s else [ends.get((p - 1, g, count - 1), 0) if token else 0]
            before += [ends[(*todo[i - 1], s)]] if i and alone else []
            ends[p, g, s] = max(before) + seconds[s]
    return share(len(todo) * sum(seconds), max(ends.values()), count)


def test_3_right(capsys):
    accepts(lab11.check_idle, idle, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda **case: 1 - idle(**case), "That is the share in which stages compute."),
        (lambda **case: idle(**case, share=lambda used, end, n: end - used / n), "A share has no unit."),
        (lambda **case: idle(**case, token=False), "Does it begin before?"),
        (lambda **case: idle(**case, alone=False), "Does it compute two here?"),
        (lambda seconds, **case: 1 - 1 / len(seconds), "another group can be in the next one."),
        (lambda **case: idle(**case, order=lambda one: one[::-1]), "Does one group make all its passes"),
        (lambda seconds, groups, passes: (len(seconds) - 1) / (groups * passes + len(seconds) - 1), "as in training."),
        (lambda seconds, groups, passes: (len(seconds) - 1) / (groups + len(seconds) - 1), "as in training."),
        (lambda seconds, groups, passes: max(0, 1 - groups / len(seconds)), "What do the beginning and the end add?"),
        (lambda seconds, **case: idle(seconds, **case, share=lambda used, end, n: 1 - used * seconds[-1] / sum(seconds) / end), "Is it one stage alone?"),
        (lambda **case: idle(**case, of=max), "Are they alike here?"),
        (lambda **case: idle(**case, of=np.mean), "Are they alike here?"),
        (lambda **case: idle(**{**case, "passes": 1}), "Are there more passes than one?"),
        (lambda seconds, **case: idle(seconds, **case, share=lambda used, end, n: 1 - used / sum(end - sum(seconds[:s]) for s in range(n))),
         "Does a stage's time begin with its first pass?"),
    ],
)  # fmt: skip
def test_3_wrong(answer, words):
    refuses(lab11.check_idle, answer, words)


@pytest.mark.parametrize("what", NO_NUMBER)
def test_3_no_number(what):
    refuses(lab11.check_idle, *NO_NUMBER[what])


def balanced(layers, head, stages):
    """The right answer by filling stages up to a bound, from the smallest bound on."""
    for bound in sorted({float(n) for n in range(1, layers + 1)} | {n + head for n in range(1, layers + 1)}):
        last = min(layers - stages + 1, math.floor(bound - head))
        if last >= 1 and (stages - 1) * int(bound) + last >= layers:
            rest = layers - last
            split = [rest * (i + 1) // (stages - 1) - rest * i // (stages - 1) for i in range(stages - 1)]
            return (*split, last) if stages > 1 else (layers,)
    raise AssertionError


def lightest(layers, head, stages):
    """The right answer, of several the one with the fewest layers in the last stage."""
    splits = (
        [[*even(layers - last, head, stages - 1), last] for last in range(1, layers - stages + 2)]
        if stages > 1
        else [[layers]]
    )
    return min(splits, key=lambda split: max([*split[:-1], split[-1] + head]))


def even(layers, head, stages):
    return [len(part) for part in np.array_split(range(layers), stages)]


def test_4_right(capsys):
    accepts(lab11.check_balance, balanced, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (even, "That is an even split of the layers."),
        (lambda **case: even(**case)[::-1], "That is an even split of the layers."),
        (lambda **case: lightest(**case)[::-1], "Is the first one spared?"),
        (lambda layers, head, stages: lightest(layers, 1.0, stages), "Does the head weigh as much as one layer?"),
        (lambda layers, head, stages: [*even(layers - 1, 0, stages - 1), 1] if stages > 1 else [layers], "as little as possible?"),
        (lambda layers, head, stages: [layers] if stages == 1 else
         [*even(layers - (last := min(max(1, int((layers + head) / stages - head)), layers - stages + 1)), 0, stages - 1), last], "Rounded up or down"),
        (lambda layers, head, stages: [layers] + [0] * (stages - 1), "each stage has a layer at least"),
        (lambda layers, head, stages: [1] * stages, "layers, the stages have"),
        (lambda layers, head, stages: [layers], "stages, the list has 1"),
        (lambda **case: None, "Is a return missing?"),
        (lambda **case: 3, "expected a list of whole numbers, the layers of each stage"),
        (lambda **case: ["a"], "expected a list of whole numbers, the layers of each stage"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_4_wrong(answer, words):
    refuses(lab11.check_balance, answer, words)


def seats(model, machine, limit, tp, pp, *, fits=None, reads=None, sums=2, hops=True):
    """The requests of a group, by fractions; with one of the options changed a wrong number."""
    weights, cache = model["weights"], model["cache"]
    room = (fits or (lambda: machine["memory"] * tp * pp - weights))()
    left = limit - sums * model["layers"] * machine["sums"][tp] - hops * (pp - 1) * machine["hop"]
    fast = (reads or (lambda left: left * machine["bandwidth"] * tp))(left) - weights
    return max(0, min(math.floor(room / (pp * cache)), math.floor(fast / cache)))


def chosen(
    model,
    machine,
    limit,
    *,
    allowed=lambda plan: True,
    value=lambda plan, size: size * plan[1] * plan[2],
    **options,
):
    """The right answer over all plans, the largest first; with one of the options changed a wrong one."""
    plans = [
        (tp, pp, r)
        for tp, pp, r in itertools.product(
            machine["sums"], range(1, model["layers"] + 1), range(1, machine["devices"] + 1)
        )
        if tp * pp * r <= machine["devices"] and model["kv_heads"] % tp == 0 and allowed((tp, pp, r))
    ]
    built = {name: make(model, machine, limit) for name, make in options.items() if callable(make)}
    plain = {name: made for name, made in options.items() if not callable(made)}

    def worth(plan):
        ready = {name: (lambda *a, f=f: f(plan, *a)) for name, f in built.items()}
        return value(plan, seats(model, machine, limit, plan[0], plan[1], **ready, **plain))

    best = max(plans, key=worth)
    return best if worth(best) else None


def repeated(model, machine, limit):
    plan = chosen(model, machine, limit, value=lambda plan, size: size * plan[1])
    return plan and (plan[0], plan[1], machine["devices"] // (plan[0] * plan[1]))


def test_5_right(capsys):
    accepts(lab11.check_choose, chosen, capsys)
    accepts(
        lab11.check_choose, lambda **case: None if (plan := chosen(**case)) is None else list(plan), capsys
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fits": lambda m, c, limit: lambda plan: 10**18}, "Do the weights and all caches fit into the memory?"),
        ({"fits": lambda m, c, limit: lambda plan: (c["memory"] * plan[0] * plan[1] - m["weights"]) * plan[1]}, "Is the memory that of one group alone?"),
        ({"fits": lambda m, c, limit: lambda plan: (c["memory"] - m["weights"]) * plan[0] * plan[1]}, "Does each device hold all of them?"),
        ({"reads": lambda m, c, limit: lambda plan, left: 10**18}, "Does a token come within the limit?"),
        ({"reads": lambda m, c, limit: lambda plan, left: left * c["bandwidth"]}, "Is all that is read divided among them?"),
        ({"sums": 0}, "Sums over ranks take time."),
        ({"sums": 1}, "There are two sums in each layer."),
        ({"hops": False}, "Messages between stages take time."),
        ({"allowed": lambda plan: plan[0] == 1}, "Has each stage one device?"),
        ({"allowed": lambda plan: plan[1] == 1}, "Is there one stage?"),
        ({"allowed": lambda plan: plan[2] == 1}, "Is there one replica?"),
        ({"value": lambda plan, size: size * plan[1]}, "Is there one replica?"),
    ],
)  # fmt: skip
def test_5_wrong(options, words):
    refuses(lab11.check_choose, lambda **case: chosen(**case, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda **case: None, "another plan serves some requests"),
        (lambda **case: (1, 1, 1), "this plan serves no request, and no other does"),
        (repeated, "Is that the best replica, as often as it fits?"),
        (lambda machine, **case: (1, 1, machine["devices"] + 1), "devices, the plan uses 1 x 1 x"),
        (lambda machine, **case: (32, 1, 1), "the plan uses 32 x 1 x 1 = 32"),
        (
            lambda machine, **case: (3, 1, 1) if machine["devices"] > 2 else (1, 1, 1),
            "3 devices",
        ),
        (lambda **case: (1, 1), "expected three whole numbers: devices a stage, stages, replicas"),
        (lambda **case: (1, 0, 1), "expected three whole numbers: devices a stage, stages, replicas"),
        (lambda **case: 4, "expected three whole numbers: devices a stage, stages, replicas"),
        (lambda machine, **case: machine["sums"].clear(), "it changed its input"),
        (unwritten, "not done yet"),
    ],
)
def test_5_wrong_in_kind(answer, words):
    refuses(lab11.check_choose, answer, words)


def test_5_a_plan_that_serves_nothing_is_none():
    refuses(
        lab11.check_choose,
        lambda **case: chosen(**case) or (1, 1, 1),
        "this plan serves no request, and no other does",
    )
