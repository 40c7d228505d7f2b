"""The engine beside other engines: `python -m benchmarks.engine [--repeats N] [--only "NAME" ...]`.

SmolLM2-135M, greedy, forced lengths, the same threads; contenders take turns. Two workloads: 16 ragged requests
(prompts of 32 to 512 tokens, answers of 16 to 128), and 64 requests behind a system prompt of 256 tokens. Bars: ragged at
least 2.0x the better of transformers' static and continuous batching, in fp32 and bf16, and 1.5x llama.cpp's server (F16, 16
slots) in bf16; shared at least 3.5x the better of transformers' two. llama.cpp runs in an environment of its own, which
`benchmarks.rivals` makes; other engines are compared there.

One workload in one type is one run, recorded with the environment that it ran in. `--only` replaces the runs it names in
results/engine.json and leaves the others.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig

from benchmarks.record import RESULTS, environment, write
from benchmarks.rivals.contenders import start
from benchmarks.rivals.process import Rival
from benchmarks.rivals.protocol import tokens
from benchmarks.transformers_batches import Answers, Job, continuous_batches, static_batches, timed
from helpers import ContinuousBatcher, PagedKVCache
from helpers.engine import Request
from helpers.model import DecoderConfig, DecoderLM, checkpoint

SEATS, SYSTEM = 16, 256
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def ragged16() -> list[Job]:
    """16 requests of very different lengths."""
    rng = random.Random(16)
    return [Job(tokens(rng, rng.randint(32, 512)), rng.randint(16, 128)) for _ in range(16)]


def shared64(system: int = SYSTEM) -> list[Job]:
    """64 requests that begin alike."""
    rng = random.Random(64)
    prefix = tokens(rng, SYSTEM)[:system]
    return [Job(prefix + tokens(rng, rng.randint(16, 96)), rng.randint(32, 96)) for _ in range(64)]


class Ours:
    """`ContinuousBatcher`, a fresh engine for each run, with counts of the last one."""

    def __init__(self, model: Any, seats: int):
        """An engine over pages of 16 tokens, with room for all jobs."""
        self.model, self.seats = model, seats
        self.computed = self.passes = 0

    def serve(self, jobs: Sequence[Job]) -> Answers:
        """The answers to all jobs, asked at once."""
        pages = sum(-(-(len(job.prompt) + job.new_tokens) // 16) for job in jobs)
        engine = ContinuousBatcher(
            self.model, PagedKVCache.for_model(self.model, pages, 16), max_batch_size=self.seats
        )
        for i, job in enumerate(jobs):
            engine.add_request(Request(i, job.prompt, job.new_tokens))
        done = engine.run()
        self.passes = len(engine.steps)
        self.computed = sum(state.tokens_computed for state in done.values())
        return [done[i].token_ids for i in range(len(jobs))]


def compare(
    contenders: dict[str, Callable[[Sequence[Job]], Answers]],
    jobs: list[Job],
    repeats: int,
    label: str,
) -> dict[str, Any]:
    """All samples of one workload, in turns, and how often each answer equals ours."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, Answers] = {}
    for _ in range(repeats):
        for name, serve in contenders.items():
            seconds, given = timed(serve, jobs)
            answers[name] = given
            samples[name].append(seconds)
            print(f"{label:<15} {name:<24} {seconds:6.1f} s", flush=True)
    ours = answers["ours"]
    equal = {name: sum(a == b for a, b in zip(got, ours, strict=True)) for name, got in answers.items()}
    assert all(len(a) == job.new_tokens for got in answers.values() for a, job in zip(got, jobs, strict=True))
    return {"seconds": samples, "answers equal to ours": equal, "requests": len(jobs)}


def verdicts(results: dict[str, Any]) -> dict[str, float]:
    """How many times as fast ours is: against transformers' better way, and against llama.cpp."""
    found = {}
    for label, entry in results.items():
        medians = {name: statistics.median(values) for name, values in entry["seconds"].items()}
        theirs = [value for name, value in medians.items() if name.startswith("transformers")]
        if theirs:
            found[f"{label}: times transformers"] = min(theirs) / medians["ours"]
        for name in medians:
            if "llama" in name:
                found[f"{label}: times llama.cpp"] = medians[name] / medians["ours"]
    return found


def run(workload: str, dtype: str, repeats: int, llama: Rival | None = None) -> dict[str, Any]:
    """One workload in one type: everybody in turns."""
    model, reference = checkpoint.load(DTYPES[dtype]).model, checkpoint.load_reference(DTYPES[dtype])
    jobs, seats = (ragged16(), SEATS) if workload == "ragged16" else (shared64(), 64)
    engine = Ours(model, seats)
    contenders: dict[str, Callable[[Sequence[Job]], Answers]] = {
        "ours": engine.serve,
        "transformers, static": lambda jobs: static_batches(reference, jobs, SEATS),
        "transformers, continuous": lambda jobs: continuous_batches(reference, jobs, SEATS),
    }
    if llama is not None:
        contenders["llama.cpp, F16"] = llama.serve
    for serve in contenders.values():
        serve(jobs[:2])  # warm up
    entry = compare(contenders, jobs, repeats, f"{workload} {dtype}")
    entry |= {"tokens": sum(len(job.prompt) + job.new_tokens for job in jobs)}
    entry |= {"tokens computed by ours": engine.computed, "passes of ours": engine.passes}
    return entry


def counts() -> dict[str, int]:
    """Tokens that ours computes when the shared prefix ends with a page, and when it ends within one: a matter of texts.

    So a very small model of random weights serves.
    """
    cfg = DecoderConfig.from_hf(AutoConfig.from_pretrained(checkpoint.locate()))
    small = dict(hidden_size=8, intermediate_size=8, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=8)
    model = DecoderLM(replace(cfg, **small, inv_freq=cfg.inv_freq[:4])).requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    found = {}
    for system in (SYSTEM, SYSTEM - 5):
        engine = Ours(model, 64)
        engine.serve(shared64(system))
        found[f"prefix of {system}"] = engine.computed
    return found


def record(name: str, entry: dict[str, Any]) -> None:
    """Puts one run into results/engine.json, with its environment, and works out the ratios anew."""
    packages = ("torch", "transformers")
    path = RESULTS / "engine.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    settings = {**environment(packages), "threads": torch.get_num_threads()}
    settings["packages"] |= entry.pop("versions", {})
    runs[name] = {**entry, "environment": settings}
    timed_runs = {label: run for label, run in sorted(runs.items()) if "seconds" in run}
    print(write("engine", {"times as fast": verdicts(timed_runs), "runs": runs}, packages))


def main() -> None:
    """Runs what was asked for, writes results/engine.json, prints the ratios."""
    every = [*(f"{workload} {dtype}" for dtype in DTYPES for workload in ("ragged16", "shared64")), "counts"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=every, choices=every)
    options = parser.parse_args()
    for name in options.only:
        if name == "counts":
            record(name, {"tokens computed": counts()})
            continue
        workload, dtype = name.split()
        if dtype == "fp32":
            record(name, run(workload, dtype, options.repeats))
            continue
        llama, versions = start("llama.cpp", dtype, torch.get_num_threads())
        with llama:
            record(name, {**run(workload, dtype, options.repeats, llama), "versions": versions})
    for name, ratio in json.loads((RESULTS / "engine.json").read_text())["times as fast"].items():
        print(f"{name}: {ratio:.2f}")


if __name__ == "__main__":
    main()
