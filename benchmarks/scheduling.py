"""The simulator held to account: `python -m benchmarks.scheduling [--repeats N] [--only NAME ...] [--size N]`.

SmolLM2-135M in fp32, 8 seats. For each of three traces, at twice the rate that the engine can serve: pass times are calibrated
by a short run, both policies are simulated, then served by the real engine. Bars: throughput within 15 %, median TTFT within
25 %, and the same policy is first. Then: 100,000 requests through the simulator; bar: 25 s.
Then: what a decision costs while long requests wait for pages.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks.record import RESULTS, write
from helpers import ContinuousBatcher, PagedKVCache
from helpers.engine import FirstComeFirstServed, Request, RequestScheduler, ShortestJobFirst
from helpers.estimates import accelerator_ceilings
from helpers.model import PUBLISHED, checkpoint
from helpers.simulation import PaperPages, PassTime, RooflineTime, SimulatedEngine, calibrate, simulate
from helpers.traffic import (
    KnownLength,
    Lengths,
    Mix,
    Report,
    Trace,
    WallClock,
    bursty,
    poisson,
    replay_trace,
    shared_prefix,
)

SEATS, BUDGET, PAGES, LOAD = 8, 256, 600, 2.0
MIX = Mix(Lengths(48, 0.7, 8, 256), Lengths(24, 0.8, 2, 96))
TRACES = {
    "Poisson": lambda rate: poisson(40, rate, MIX, seed=8),
    "bursty": lambda rate: bursty(40, rate, 3.0, MIX, seed=8),
    "shared prefix": lambda rate: shared_prefix(40, rate, 3, Lengths(96), MIX, 1.0, seed=8),
}


def policies(trace: Trace) -> dict[str, Any]:
    """What makes the two policies."""
    return {"fcfs": FirstComeFirstServed, "sjf": partial(ShortestJobFirst, KnownLength(trace))}


def at_load(make: Any, pass_time: PassTime) -> Trace:
    """A trace that comes at `LOAD` times the rate at which the engine could serve it if all came at once."""
    at_once = make(1e6)
    capacity = len(at_once) / simulate(at_once, engine(pass_time)).seconds
    trace: Trace = make(1.0)
    return trace.faster(LOAD * capacity / trace.rate)


def engine(pass_time: PassTime, policy: Any = FirstComeFirstServed) -> SimulatedEngine:
    """A simulated engine with the real one's limits."""
    return SimulatedEngine(pass_time, PAGES, 16, SEATS, BUDGET, policy=policy)


def serve(model: Any, trace: Trace, policy: Any) -> Report:
    """The real engine's report."""
    clock = WallClock()
    cache = PagedKVCache.for_model(model, PAGES, 16)
    batcher = ContinuousBatcher(model, cache, SEATS, BUDGET, policy=policy(), clock=clock)
    return Report.of(batcher, replay_trace(trace, batcher, clock, model.cfg.vocab_size))


def numbers(report: Report) -> dict[str, float]:
    """What is compared, and some more."""
    return {
        "tok/s": report.throughput,
        "TTFT p50": report.percentile("ttft", 50),
        "TTFT p99": report.percentile("ttft", 99),
        "TPOT p50": report.percentile("tpot", 50),
        "latency p50": report.percentile("latency", 50),
        "utilisation": report.utilisation,
        "mean batch": report.mean_batch,
    }


def account(model: Any, name: str, repeats: int) -> dict[str, Any]:
    """One trace: simulated and measured, under both policies."""
    trace = at_load(TRACES[name], calibrate(model, SEATS, BUDGET, rounds=1, prompts=MIX.prompt))
    samples: dict[str, Any] = {policy: {"simulated": [], "measured": []} for policy in policies(trace)}
    for _ in range(repeats):
        fit = calibrate(model, SEATS, BUDGET, prompts=MIX.prompt)
        for policy, make in policies(trace).items():
            samples[policy]["simulated"].append(numbers(simulate(trace, engine(fit, make))))
            samples[policy]["measured"].append(numbers(serve(model, trace, make)))
    ratios = {policy: _ratios(both) for policy, both in samples.items()}
    for policy, ratio in ratios.items():
        print(
            f"{name:<14} {policy:<5} simulated over measured:",
            {k: round(v, 3) for k, v in ratio.items()},
            flush=True,
        )
    first = [
        min(samples, key=lambda policy: _median(samples[policy][side], "TTFT p50"))
        for side in ("simulated", "measured")
    ]
    return {
        "requests": [asdict(arrival) for arrival in trace],
        "samples": samples,
        "simulated over measured": ratios,
        "lower TTFT": dict(zip(("simulated", "measured"), first, strict=True)),
        "within the bars": first[0] == first[1]
        and all(abs(r["tok/s"] - 1) <= 0.15 and abs(r["TTFT p50"] - 1) <= 0.25 for r in ratios.values()),
    }


def speed(size: int) -> dict[str, Any]:
    """Seconds for `size` requests through the simulator; an Ascend die and Llama-3-8B on paper, at two loads."""
    pass_time = RooflineTime(PUBLISHED["Llama-3-8B"], accelerator_ceilings("Ascend 910C (one die)"), 1e-3)
    found: dict[str, Any] = {"requests": size}
    for rate, page_size in ((30.0, 128), (60.0, 128), (60.0, 16)):
        trace = poisson(size, rate)
        begin = time.perf_counter()
        report = simulate(trace, SimulatedEngine(pass_time, 65536 // page_size, page_size))
        seconds = time.perf_counter() - begin
        key = f"{rate:g} a second, pages of {page_size} tokens"
        found[key] = {
            "seconds": seconds,
            "passes": report.passes,
            "simulated seconds": report.seconds,
            "time at work": report.utilisation,
        }
        print(f"{size} requests, {key}: {seconds:.1f} s", flush=True)
    return found


def decision(policy: str, tokens: int, blocked: int = 32, passes: int = 60) -> float:
    """Milliseconds to plan a pass, median, while one request runs and `blocked` of `tokens` tokens find no pages."""
    pages = PaperPages(2 * tokens // 16, 16)
    scheduler = RequestScheduler(64, policy, token_budget=2 * tokens, pages=pages)
    scheduler.add_request(Request("runs", range(tokens), passes + 2))
    samples = []
    for number in range(passes + 1):
        begin = time.perf_counter()
        planned = scheduler.schedule()
        samples.append(1e3 * (time.perf_counter() - begin))
        pages.commit()
        for state, chunk in planned:
            state.computed += len(chunk)
            scheduler.took(state, 1, 0.0)
        if not number:
            for i in range(blocked):
                scheduler.add_request(Request(i, [tokens + i, *range(2 * tokens - 64)], 4))
    return statistics.median(samples[1:])


def decisions() -> dict[str, float]:
    """Milliseconds of a decision by policy and length of the waiting texts: flat, because a text is packed once."""
    found = {}
    for policy in ("fcfs", "cache_aware"):
        for tokens in (1_000, 10_000, 100_000):
            found[f"{policy}, texts of {tokens} tokens"] = took = decision(policy, tokens)
            print(f"{policy}, 32 blocked requests of {tokens} tokens: {took:.3f} ms a pass")
    return found


def _median(samples: list[dict[str, float]], key: str) -> float:
    """The middle one."""
    return statistics.median(sample[key] for sample in samples)


def _ratios(both: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Simulated over measured, of medians."""
    return {
        key: _median(both["simulated"], key) / _median(both["measured"], key) for key in both["measured"][0]
    }


def main() -> None:
    """Runs what was asked for; results/scheduling.json keeps what it had of the rest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[*TRACES], choices=[*TRACES])
    parser.add_argument("--size", type=int, default=100_000)
    options = parser.parse_args()
    path = RESULTS / "scheduling.json"
    results = json.loads(path.read_text()) if path.exists() else {"traces": {}, "simulator": {}}
    results.pop("environment", None)
    model = checkpoint.load().model if options.only else None
    for name in options.only:
        results["traces"][name] = account(model, name, options.repeats)
        write("scheduling", results)
    if options.size:
        results["decisions"] = decisions()
        results["simulator"] = speed(options.size)
    print(write("scheduling", results))


if __name__ == "__main__":
    main()
