"""The engine beside other engines: `python -m benchmarks.engine [--repeats N] [--only NAME ...]`.

SmolLM2-135M, greedy, forced lengths, one process, the same threads; contenders take turns. Two workloads: 16 ragged requests
(prompts of 32 to 512 tokens, answers of 16 to 128), and 64 requests behind a system prompt of 256 tokens. Bars: ragged at
least 2.0x the better of transformers' static and continuous batching, in fp32 and bf16, and 1.5x llama.cpp's server (F16, 16
slots) in bf16; shared at least 3.5x the better of transformers' two. Needs `pip install --no-deps xllamacpp` for llama.cpp.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import write
from benchmarks.serving_rivals import (
    Answers,
    Job,
    LlamaServer,
    continuous_batches,
    static_batches,
    timed,
    write_f16,
)
from helpers import ContinuousBatcher, PagedKVCache, checkpoint, smollm2
from helpers.request import Request

SEATS, SYSTEM = 16, 256
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def ragged16() -> list[Job]:
    """16 requests of very different lengths."""
    rng = random.Random(16)
    return [Job(_tokens(rng, rng.randint(32, 512)), rng.randint(16, 128)) for _ in range(16)]


def shared64(system: int = SYSTEM) -> list[Job]:
    """64 requests that begin alike."""
    rng = random.Random(64)
    prefix = _tokens(rng, SYSTEM)[:system]
    return [Job(prefix + _tokens(rng, rng.randint(16, 96)), rng.randint(32, 96)) for _ in range(64)]


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
    contenders: dict[str, Callable[[Sequence[Job]], Answers | None]],
    jobs: list[Job],
    repeats: int,
    label: str,
) -> dict[str, Any]:
    """All samples of one workload, in turns, and how often each answer equals ours."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, Answers] = {}  # of those that give tokens
    for _ in range(repeats):
        for name, serve in contenders.items():
            seconds, given = timed(serve, jobs)
            answers |= {} if given is None else {name: given}
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


def run(dtype: str, repeats: int, llama: LlamaServer | None, wanted: set[str]) -> dict[str, Any]:
    """Both workloads in one type."""
    model, reference = checkpoint.load(DTYPES[dtype]).model, checkpoint.load_reference(DTYPES[dtype])
    results = {}
    for workload, jobs, seats in (("ragged16", ragged16(), SEATS), ("shared64", shared64(), 64)):
        if f"{workload} {dtype}" not in wanted:
            continue
        engine = Ours(model, seats)
        contenders: dict[str, Callable[[Sequence[Job]], Answers | None]] = {
            "ours": engine.serve,
            "transformers, static": lambda jobs: static_batches(reference, jobs, SEATS),
            "transformers, continuous": lambda jobs: continuous_batches(reference, jobs, SEATS),
        }
        if llama is not None and dtype == "bf16":
            contenders["llama.cpp, F16"] = llama.serve
        for serve in contenders.values():
            serve(jobs[:2])  # warm up
        entry = compare(contenders, jobs, repeats, f"{workload} {dtype}")
        entry |= {"tokens": sum(len(job.prompt) + job.new_tokens for job in jobs)}
        entry |= {"tokens computed by ours": engine.computed, "passes of ours": engine.passes}
        results[f"{workload} {dtype}"] = entry
    return results


def unaligned(model: Any) -> dict[str, int]:
    """Tokens computed when the shared prefix ends with a page, and when it ends within one."""
    counts = {}
    for system in (SYSTEM, SYSTEM - 5):
        engine = Ours(model, 64)
        engine.serve(shared64(system))
        counts[str(system)] = engine.computed
    return counts


def main() -> None:
    """Runs what was asked for, prints the ratios, writes results/engine.json."""
    every = [f"{w} {d}" for d in DTYPES for w in ("ragged16", "shared64")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=every, choices=every)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        gguf = Path(scratch) / "f16.gguf"
        write_f16(checkpoint.locate() / Path(smollm2.MEMBER).name, gguf)
        llama = LlamaServer(gguf, SEATS, torch.get_num_threads())
        results: dict[str, Any] = {}
        for dtype in DTYPES:
            results |= run(dtype, options.repeats, llama, set(options.only))
    ratios = verdicts(results)
    counts = unaligned(checkpoint.load(torch.bfloat16).model)
    print("tokens computed with a shared prefix of 256 and of 251 tokens:", counts)
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    packages = ("torch", "transformers", "xllamacpp")
    print(write("engine", {"runs": results, "times as fast": ratios, "tokens computed": counts}, packages))


def _tokens(rng: random.Random, count: int) -> list[int]:
    """Random tokens, none of them special."""
    return [rng.randrange(100, 49_000) for _ in range(count)]


if __name__ == "__main__":
    main()
