"""Exercise 11.5: a model, a machine and a promise; how many ranks, stages and replicas?"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from helpers.checks.families.lab11.numbers import listed_whole
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong

Plan = tuple[int, int, int]
Sizes = Mapping[str, Any]
EMPTY = -1
"""What no plan is worth, where no plan serves any request."""


def group_size(
    model: Sizes, machine: Sizes, limit: int, plan: Plan, *, memory: str = "right", time: str = "right", sums: float = 2.0,
    hops: bool = True, refused: str = "",
) -> int:  # fmt: skip
    """Return how many requests a group of this plan has, 0 or more; with one of the options changed, a wrong number.

    `refused` names the bounds that a wrong answer keeps a byte away from.
    """
    tp, pp, _ = plan
    weights, cache = model["weights"], model["cache"]
    room = machine["memory"] * tp * pp - weights * (tp * pp if memory == "whole" else 1)
    fits = (
        (room - ("memory" in refused)) // (cache * (1 if memory == "one group" else pp))
        if memory != "none"
        else 10**6
    )
    share = pp if time == "one stage" else 1
    left = limit - sums * model["layers"] * machine["sums"][tp] / share - (pp - 1) * machine["hop"] * hops
    reads = int(left * machine["bandwidth"] * (1 if time == "one device" else tp * share))
    fast = (reads - ("time" in refused) - weights) // cache if time != "none" else 10**6
    return max(0, min(fits, fast))


def served(model: Sizes, machine: Sizes, limit: int, plan: Plan, **options: Any) -> int:
    """Return how many requests a plan serves at once."""
    return plan[1] * plan[2] * group_size(model, machine, limit, plan, **options)


def plans(model: Sizes, machine: Sizes) -> Iterator[Plan]:
    """Yield the plans that a machine allows."""
    for tp, pp in itertools.product(machine["sums"], range(1, model["layers"] + 1)):
        if model["kv_heads"] % tp == 0 and tp * pp <= machine["devices"]:
            yield from ((tp, pp, replicas) for replicas in range(1, machine["devices"] // (tp * pp) + 1))


def worth(model: Sizes, machine: Sizes, limit: int) -> int:
    """Return the most requests that any plan serves; EMPTY where none serves any."""
    return max(served(model, machine, limit, plan) for plan in plans(model, machine)) or EMPTY


def _worth_of(plan: Plan | None, case: Case) -> int:
    """Return what a plan is worth."""
    return EMPTY if plan is None else served(**case, plan=plan)


def _by(key: Callable[..., Any], allowed: Callable[[Plan], bool] = lambda plan: True) -> Wrong:
    """Return what the plan is worth that has the most of `key(plan, case)` among those allowed."""

    def wrong(**case: Any) -> int:
        found = [plan for plan in plans(case["model"], case["machine"]) if allowed(plan)]
        best = max(found, key=lambda plan: key(plan, case))
        return _worth_of(best if key(best, case) else None, case)

    return wrong


def _wrongly(**options: Any) -> Wrong:
    """Return what the plan is worth that seems best by a wrong count; of several, the first and smallest."""
    return _by(lambda plan, case: served(**case, plan=plan, **options))


def _right(plan: Plan, case: Case) -> int:
    """Return the right count."""
    return served(**case, plan=plan)


def _repeated(**case: Any) -> int:
    """Return what the best replica is worth, as often as there are devices for it."""
    found = plans(case["model"], case["machine"])
    tp, pp, _ = max(found, key=lambda plan: plan[1] * group_size(**case, plan=plan))
    return served(**case, plan=(tp, pp, case["machine"]["devices"] // (tp * pp))) or EMPTY


def choose_cases(draw: random.Random) -> Iterator[Case]:
    """Yield models and machines: a small model, one that fits no device, a tight limit, slow sums, nothing that fits, bounds just reached."""
    yield from (_case(draw, *numbers) for numbers in (
        (16, 32, 8, 64, 8, 40_000), (65, 64, 8, 64, 8, 60_000), (140, 80, 8, 64, 16, 30_000), (16, 32, 8, 64, 8, 6_000),
        (400, 61, 8, 64, 8, 50_000), (3, 28, 2, 32, 4, 20_000), (65, 64, 8, 64, 1, 60_000), (65, 64, 4, 64, 16, 25_000),
    ))  # fmt: skip
    yield _case(draw, 65, 64, 8, 64, 8, 60_000, ranks=(1, 2))
    yield _case(draw, 140, 80, 6, 64, 12, 60_000, ranks=(1, 3, 6))
    yield _case(draw, 140, 80, 6, 64, 8, 40_000, ranks=(1, 2, 4))
    yield _case(draw, 140, 80, 8, 64, 8, 60_000, ranks=(1, 3, 4))
    yield _case(draw, 700, 80, 1, 64, 16, 4_000_000)
    yield _case(draw, 400, 80, 16, 64, 16, 40_000, ranks=(1, 2, 4, 8, 16))
    yield from (
        _reached(*numbers) for numbers in ((3, 60_000), (6, 20_000), (3, 20_000), (2, 60_000), (6, 19_999))
    )
    while True:
        layers, kv_heads = (
            draw.randrange(*draw.choice(((1, 5), (4, 81)))),
            draw.choice((1, 2, 4, 6, 8, 8, 16)),
        )
        ranks = draw.choice(((1, 2, 4, 8), (1, 2, 4, 8), (1, 3, 4, 6), (8, 4, 2, 1, 16)))
        yield _case(draw, draw.choice((3, 8, 16, 30, 65, 140)), layers, kv_heads, draw.choice((16, 32, 64)),
                    draw.choice((1, 2, 4, 6, 8, 16)), draw.choice((5, 10, 20, 40, 80, 150)) * 1000, ranks)  # fmt: skip


def _case(
    draw: random.Random, weights: int, layers: int, kv_heads: int, memory: int, devices: int, limit: int,
    ranks: Sequence[int] = (1, 2, 4, 8),
) -> Case:  # fmt: skip
    """Return a case; weights and memory in GB, the limit in microseconds."""
    each = draw.choice((5, 20, 60))
    slowest = each * draw.choice((3, 6))
    sums = {tp: {1: 0, 2: each, 4: each * 2}.get(tp, slowest) for tp in ranks}
    cache = draw.choice((50, 200, 1500, 4000, 9000)) * 10**6 + draw.randrange(
        10**6
    )  # so that nothing comes out even
    model = {
        "weights": weights * 10**9 + draw.randrange(10**8),
        "layers": layers,
        "kv_heads": kv_heads,
        "cache": cache,
    }
    machine = {"devices": devices, "memory": memory * 10**9, "bandwidth": draw.choice((400_000, 1_600_000)),
               "sums": sums, "hop": draw.choice((20, 500, 2000))}  # fmt: skip
    return {"model": model, "machine": machine, "limit": limit}


def _reached(memory: int, limit: int) -> Case:
    """Return a case of one device, memory in units of the weights, which take 10,000 microseconds, as one cache does."""
    model = {"weights": 16 * 10**9, "layers": 32, "kv_heads": 8, "cache": 16 * 10**9}
    machine = {
        "devices": 1,
        "memory": memory * 8 * 10**9 + 8 * 10**9,
        "bandwidth": 1_600_000,
        "sums": {1: 0, 2: 20},
        "hop": 20,
    }
    return {"model": model, "machine": machine, "limit": limit}


def choose_kind(got: Any, case: Case) -> tuple[int]:
    """Return what a plan is worth. Raises CheckFailed for what the machine does not allow."""
    if got is None:
        return (EMPTY,)
    broken = "expected three whole numbers: devices a stage, stages, replicas"
    numbers = listed_whole(got, case, broken)
    model, machine = case["model"], case["machine"]
    if len(numbers) != 3 or min(numbers) < 1:
        raise CheckFailed(broken, case, got=describe(got))
    tp, pp, replicas = numbers
    if tp * pp * replicas > machine["devices"]:
        used = f"{tp} x {pp} x {replicas} = {tp * pp * replicas}"
        raise CheckFailed(
            f"there are {machine['devices']} devices, the plan uses {used}", case, got=describe(got)
        )
    hint = "Which numbers of devices can share the KV heads evenly, and are in `sums`?"
    if tp not in machine["sums"]:
        raise CheckFailed(f"`sums` names no stage of {tp} devices", case, got=describe(got), hint=hint)
    if model["kv_heads"] % tp:
        raise CheckFailed(
            f"{tp} devices do not share {model['kv_heads']} KV heads", case, got=describe(got), hint=hint
        )
    if pp > model["layers"]:
        raise CheckFailed(f"{model['layers']} layers do not fill {pp} stages", case, got=describe(got))
    return (served(**case, plan=(tp, pp, replicas)),)


def requests(number: int) -> str:
    """Return a plan's worth in words."""
    return "None" if number == EMPTY else f"{number:,} requests at once"


def broken_of(got: int, right: int, case: Case) -> str:
    """Return what is wrong with a plan."""
    if right == EMPTY:
        return "this plan serves no request, and no other does"
    return "another plan serves some requests" if got <= 0 else "another plan serves more requests"


CHOOSE = Family(
    worth,
    choose_cases,
    (Part(broken=broken_of, shown=requests, mistakes={
        "Do the weights and all caches fit into the memory?": _wrongly(memory="none"),
        "All groups of a replica keep their caches. Is the memory that of one group alone?": _wrongly(memory="one group"),
        "Ranks and stages share the weights out. Does each device hold all of them?": _wrongly(memory="whole"),
        "Does a token come within the limit?": _wrongly(time="none"),
        "A token goes through all stages. Is it the time of one stage?": _wrongly(time="one stage"),
        "Ranks read their parts at the same time. Is all that is read divided among them?": _wrongly(time="one device"),
        "Sums over ranks take time. Are they left out?": _wrongly(sums=0.0),
        "There are two sums in each layer. Is it one?": _wrongly(sums=1.0),
        "A bound that is just reached is kept. Is it refused?": tuple(
            _wrongly(refused=bound) for bound in ("memory", "time", "memory and time")),
        "Messages between stages take time. Are they left out?": _wrongly(hops=False),
        "Has each stage one device? More devices read their parts at the same time.": _by(_right, lambda plan: plan[0] == 1),
        "Is there one stage? More stages hold more, and a group computes in each.": _by(_right, lambda plan: plan[1] == 1),
        "Is there one replica? What do two smaller ones serve together?": _by(_right, lambda plan: plan[2] == 1),
        "Is that the best replica, as often as it fits? Smaller ones may serve more together.": _repeated,
    }),),
    kind=choose_kind,
)  # fmt: skip
