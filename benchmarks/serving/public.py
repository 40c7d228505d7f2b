"""A public load generator beside the course's own, on the same requests at the same moments.

guidellm reads the trace as a file of moments and lengths, invents its own words, and asks the course's server, which
is a process of its own. The course's generator sends the same trace. The two take turns; the words differ, so that no
cache helps. guidellm counts from the moment when it sends, the course from the moment when a request was due: `late`
is how far the two lie apart. What guidellm calls inter-token latency is the TPOT of the course.
results/serving_public.json has both, with the whole of guidellm's own summary. guidellm has an environment in the cache
folder, made on demand as those of `benchmarks.rivals`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import write
from benchmarks.rivals.contenders import start_server
from benchmarks.rivals.environments import python_of
from benchmarks.rivals.process import OtherLoad, RivalFailed
from benchmarks.serving.rivals import MIX, served, summed
from helpers.model import checkpoint
from helpers.traffic import Trace, poisson

ONE_WORKER = {"GUIDELLM__MAX_WORKER_PROCESSES": "1"}
"""guidellm starts ten processes by default: with them, on two cores, its report missed one of twelve requests."""
PACKAGES = ("guidellm", "transformers", "torch")
TIMES = {
    "ttft": "time_to_first_token_ms", "tpot": "inter_token_latency_ms", "latency": "request_latency",
}  # fmt: skip
"""guidellm's names; the last one is in seconds."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--rate", type=float, default=1.0, help="requests per second on average (1)")
    parser.add_argument("--requests", type=int, default=32, help="requests in a trace (32)")
    parser.add_argument("--turns", type=int, default=2, help="traces for each generator (2)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="the server's threads (all cores)"
    )


def main(options: argparse.Namespace) -> None:
    """Measure, print, and write results/serving_public.json."""
    python = Path(python_of("guidellm"))
    found: dict[str, list[dict[str, Any]]] = {"course": [], "guidellm": []}
    rival, versions, url = start_server("ours", "fp32", options.threads)
    with rival:
        served(url, poisson(8, 100.0, MIX, seed=10_000))
        for turn in range(options.turns):
            trace = poisson(options.requests, options.rate, MIX, seed=turn)
            with OtherLoad(rival.pid) as others:
                found["course"].append(summed(served(url, trace)))
            found["course"][-1]["other cores"] = round(others.cores, 2)
            found["guidellm"].append(summary(guidellm(python, url, trace, turn), len(trace)))
            for name in found:
                print(f"turn {turn} {name:<9} {line(found[name][-1])}", flush=True)
    sizes = {name: getattr(options, name) for name in ("rate", "requests", "turns", "threads")}
    results = {"options": sizes, "server": versions, "guidellm": versions_of(python), "samples": found}
    print(write("serving_public", results))


def guidellm(python: Path, url: str, trace: Trace, seed: int) -> dict[str, Any]:
    """Return guidellm's report of a trace. Raise RivalFailed where guidellm ends with an error."""
    with tempfile.TemporaryDirectory() as folder:
        file, report = Path(folder) / "trace.jsonl", Path(folder) / "report.json"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(trace)))
        command = [str(python.parent / "guidellm"), "run", "--disable-console"]
        for name, value in words(url, file, report, seed).items():
            command += [f"--{name}", json.dumps(value)]
        variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **ONE_WORKER}
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
        if done.returncode or not report.exists():
            said = (done.stderr + done.stdout).strip().splitlines() or ["no reason given"]
            raise RivalFailed(f"guidellm: {said[-1][:200]}")
        found: dict[str, Any] = json.loads(report.read_text())
        return found


def rows(trace: Trace) -> list[dict[str, float]]:
    """Return a trace as guidellm reads it: moments in seconds, counts of tokens."""
    return [
        {"timestamp": one.at, "input_length": one.prompt_tokens, "output_length": one.new_tokens}
        for one in trace
    ]


def words(url: str, file: Path, report: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Return guidellm's options."""
    return {
        "backend": {
            "kind": "openai_http", "target": url, "model": "model", "request_format": "/v1/completions",
            "extras": {"body": {"temperature": 0}},
        },
        "profile": {"kind": "replay", "schedule_turn": "timestamp"},
        "data": {"kind": "trace_synthetic", "source": {"kind": "json_file", "path": str(file)}},
        "tokenizer": {"kind": "huggingface_auto", "model": str(checkpoint.locate())},
        "seed": {"kind": "static", "value": seed},
        "output": {"kind": "json", "path": str(report)},
    }  # fmt: skip


def summary(report: dict[str, Any], count: int) -> dict[str, Any]:
    """Return what is kept of guidellm's report: its own numbers, in seconds, and how late it sent.

    Raise RivalFailed where a request failed or got no whole answer, and where more than one in ten is missing: of 32
    requests a report may lack one and name no error, whatever the server (guidellm's own; it is in `lost`).
    """
    (benchmark,) = report["benchmarks"]
    kinds = benchmark["requests"]
    done = kinds["successful"] or []
    failed = sum(len(kinds.get(kind) or []) for kind in ("errored", "incomplete"))
    if failed or count - len(done) > count / 10:
        raise RivalFailed(f"guidellm: {count - len(done)} of {count} requests got no whole answer")
    metrics = benchmark["metrics"]
    times = {
        name: {
            percent: round(metrics[theirs]["successful"]["percentiles"][percent] * (1e-3 if "_ms" in theirs else 1), 5)
            for percent in ("p50", "p90", "p99")
        }
        for name, theirs in TIMES.items()
    }  # fmt: skip
    moments = [request["info"]["timings"] for request in done]
    seconds = max(one["request_end"] for one in moments) - min(one["targeted_start"] for one in moments)
    late = median(one["request_start"] - one["targeted_start"] for one in moments)
    tokens = sum(request["output_metrics"]["text_tokens"] for request in done)
    prompts = sum(request["input_metrics"]["text_tokens"] for request in done)
    return {
        "seconds": seconds, "requests": len(done), "tokens": tokens, "prompt tokens": prompts, **times,
        "late": round(late, 5), "lost": count - len(done), "own summary": {name: brief(value) for name, value in metrics.items()},
    }  # fmt: skip


def brief(metric: Any) -> Any:
    """Return a metric of guidellm's report without its distributions."""
    if not isinstance(metric, dict):
        return metric
    kept = metric.get("successful", metric)
    if not isinstance(kept, dict):
        return kept
    return {key: value for key, value in kept.items() if isinstance(value, int | float)}


def line(sample: dict[str, Any]) -> str:
    """Return a sample in words."""
    speed = sample["tokens"] / sample["seconds"]
    times = "   ".join(f"{name.upper()} {1e3 * sample[name]['p50']:.0f} ms" for name in ("ttft", "tpot"))
    late = f"   late {1e3 * sample['late']:.0f} ms" if "late" in sample else ""
    late += f"   lost {sample['lost']}" if sample.get("lost") else ""
    return f"{sample['requests']} requests   {speed:6.1f} tokens/s   {times}{late}"


def versions_of(python: Path) -> dict[str, str]:
    """Return the versions of guidellm and of what it counts with."""
    code = "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
    done = subprocess.run([str(python), "-c", code, *PACKAGES], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return {**found, "httpx of the course": version("httpx")}
