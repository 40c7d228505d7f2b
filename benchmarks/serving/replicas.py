"""Two replicas behind a router: simulated throughput beside measured throughput. Bar: medians within 15 %.

Two engines of SmolLM2-135M with one thread each, in this process, behind the server; conversations come faster than
they can be served. What the simulator is told:

- pass times from the same server under other traffic, between the measured runs (`--calibrate`): both engines, the
  event loop and the client share the cores there as they do when it counts. The time of a pass is that until the next
  one begins, as long as the engine has work: taking requests and handing tokens over are part of a turn;
- how far single passes lie from the fit. Where turns go to engines in turn, the order of two answers decides which
  engine has a conversation's text, so one run is one outcome of many: each router is simulated with `--draws` seeds and
  measured in `--repeats` runs, and medians are compared;
- the texts as a client sends them (`as_sent`): a client knows an answer's text, not its tokens.

"Pass times apart" says how far the predicted times lie from those of the measured runs themselves: a machine that became
slower after the calibration moves both numbers, a fault of the simulation the throughput alone.
results/serving_replicas.json has every draw and every run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

import torch

from benchmarks.record import write
from helpers.engine import BoundedPrefixRouter, RoundRobinRouter, Router, Step
from helpers.model import Checkpoint, checkpoint
from helpers.replicas import make_group_service
from helpers.serving.clients import Loopback, as_sent, open_loop
from helpers.simulation import (
    FittedTime,
    Load,
    ScatteredTime,
    SimulatedEngine,
    simulate_replicas,
    together,
    whole_passes,
)
from helpers.traffic import Lengths, Mix, Report, Trace, multi_turn

BAR = 0.15
MIX = Mix(Lengths(40, 0.3, 20, 80), Lengths(8, 0.3, 4, 16))
SIZES = dict(max_batch_size=4, token_budget=128, num_pages=160)
ROUTERS: dict[str, Callable[[], Router]] = {
    "in turn": RoundRobinRouter, "bound 300": lambda: BoundedPrefixRouter(300),
}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--talks", type=int, default=12, help="conversations of four turns in a trace (12)")
    parser.add_argument("--repeats", type=int, default=5, help="measured runs of each router (5)")
    parser.add_argument("--draws", type=int, default=200, help="simulated runs of each router (200)")
    parser.add_argument(
        "--calibrate", type=int, default=8, help="conversations of each run that calibrates (8)"
    )


def main(options: argparse.Namespace) -> None:
    """Measure, simulate, print, and write results/serving_replicas.json."""
    loaded = checkpoint.load(device="cpu")
    torch.set_num_threads(1)  # threads that begin from now on take this number
    trace = talks(options.talks, seed=3)
    seen: dict[str, list[Report]] = {name: [] for name in ROUTERS}
    own: dict[str, list[Step]] = {name: [] for name in ROUTERS}
    steps: list[Step] = []
    for turn in range(options.repeats):  # calibrated and measured in the same minutes
        for name, make in ROUTERS.items():
            steps += measured(loaded, talks(options.calibrate, seed=100 + turn), make())[1]
            report, passes = measured(loaded, trace, make())
            seen[name].append(report)
            own[name] += passes
    fitted = FittedTime.of(steps, skip=0)
    scatter = fitted.errors(steps)
    found = {}
    for name, make in ROUTERS.items():
        told = [simulated(trace, fitted, scatter, make, seed) for seed in range(options.draws)]
        drift = drifted(fitted, scatter, own[name])
        found[name] = {**compared(told, seen[name]), "pass times apart": drift}
        print(f"{name:<10} {line(found[name])}; pass times apart by {drift:+.1%}", flush=True)
    sizes = {name: getattr(options, name) for name in ("talks", "repeats", "draws", "calibrate")}
    calibration = {"passes": len(steps), "median error": median(map(abs, scatter))}
    print(write("serving_replicas", {"options": sizes, "calibration": calibration, "routers": found}))


def talks(count: int, seed: int) -> Trace:
    """Return conversations that come faster than two engines serve them."""
    return multi_turn(count, 20.0, turns=4, think=0.05, mix=MIX, seed=seed)


def measured(loaded: Checkpoint, trace: Trace, router: Router) -> tuple[Report, list[Step]]:
    """Return what clients of fresh replicas saw, and the turns of both engines."""
    service = make_group_service(loaded.model, loaded.tokenizer, "m", 2, router, log=None, **SIZES)
    engines = [replica.loop.engine for replica in service.loop.replicas]  # type: ignore[attr-defined]
    with Loopback(service) as server:
        report = open_loop(server.url, trace, loaded.model.cfg.vocab_size)
    return report, [turn for engine in engines for turn in whole_passes(engine.steps[1:])]


def drifted(fitted: FittedTime, scatter: Sequence[float], steps: Sequence[Step]) -> float:
    """Return how far predicted pass times lie from those of the measured runs, in sum.

    What is left of a miss in throughput is the simulation's own; the rest is a machine that had become faster or slower.
    """
    told = sum(fitted(Load.of((part.num_tokens, part.start) for part in step.parts)) for step in steps)
    return (
        told * mean(1 / (1 + error) for error in scatter) / sum(step.end - step.begin for step in steps) - 1
    )


def simulated(
    trace: Trace, fitted: FittedTime, scatter: Sequence[float], make: Callable[[], Router], seed: int
) -> Report:
    """Return one outcome of many, as the simulator has it."""
    engines = [SimulatedEngine(ScatteredTime(fitted, scatter, 2 * seed + i), **SIZES) for i in (0, 1)]
    return together(simulate_replicas(as_sent(trace), engines, make()))


def compared(told: Sequence[Report], seen: Sequence[Report]) -> dict[str, Any]:
    """Return throughput and hit rate of all runs, and how far the medians of throughput are apart."""
    values = {
        which: {
            "throughput": [round(report.throughput, 3) for report in reports],
            "hit rate": [round(report.hit_rate, 4) for report in reports],
        }
        for which, reports in (("simulated", told), ("measured", seen))
    }
    medians = [median(values[which]["throughput"]) for which in ("simulated", "measured")]
    return {**values, "apart": medians[0] / medians[1] - 1}


def line(found: dict[str, Any]) -> str:
    """Return one router's result in words."""
    parts = []
    for which in ("simulated", "measured"):
        speeds, hits = found[which]["throughput"], found[which]["hit rate"]
        parts.append(f"{which} {median(speeds):5.1f} tokens/s ({min(speeds):.1f} to {max(speeds):.1f}), "
                     f"hits {median(hits):.0%} ({min(hits):.0%} to {max(hits):.0%})")  # fmt: skip
    verdict = "within" if abs(found["apart"]) <= BAR else "NOT within"
    return "; ".join(parts) + f"; apart by {found['apart']:+.1%}, {verdict} {BAR:.0%}"
