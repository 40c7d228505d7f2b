"""Other servers beside the course's: the same requests at the same moments, at fixed mean rates.

SmolLM2-135M-Instruct, greedy, forced lengths, the same number of threads. Contenders take turns: one trace for
each, then the next turn with other words at other moments. Requests come on average `rate` times a second, whether
or not the server follows (an open loop), so that throughput below what is asked for says: too fast. The client is
this process, on the same cores for all. A server that does not start is a line with its reason, here and in
results/serving_rivals.json. Samples are written at once, and none that is there is taken again, as in
`benchmarks.rivals`, which also makes the environments.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.rivals.contenders import SERVERS, start_server
from benchmarks.rivals.process import Rival, RivalFailed
from benchmarks.rivals.results import Results
from benchmarks.rivals.slice import Slice, machine
from helpers.serving.clients import open_loop
from helpers.traffic import Lengths, Mix, Report, Trace, poisson

VOCABULARY = 49_000
MIX = Mix(Lengths(96, 0.5, 16, 384), Lengths(32, 0.4, 8, 96))
FILE = "serving_rivals"


class Servers(Slice):
    """Servers that are asked over HTTP."""

    def __init__(self, options: argparse.Namespace, results: Results):
        """Begin now."""
        super().__init__(options, results)
        self.urls: dict[str, str] = {}

    def workloads(self, format: str) -> Sequence[str]:
        """Return the rates, each with its number of requests: other counts are other workloads."""
        return [f"{rate:g}/s, {self.options.requests}" for rate in self.options.rates]

    def start(self, name: str, format: str) -> tuple[Rival, dict[str, str]]:
        """Return a server's process, warm, and its versions."""
        rival, versions, self.urls[name] = start_server(name, format, self.options.threads, self.left)
        try:
            served(self.urls[name], poisson(8, 100.0, MIX, seed=10_000))
        except BaseException:
            rival.close()
            raise
        return rival, versions

    def taken(self, rival: Rival, format: str, workload: str, turn: int, name: str) -> dict[str, Any]:
        """Return what the clients of one trace saw."""
        return summed(served(self.urls[name], self.trace(workload, turn)))

    def trace(self, workload: str, turn: int) -> Trace:
        """Return a turn's trace, which is the same for all contenders."""
        rate, count = workload.split("/s, ")
        return poisson(int(count), float(rate), MIX, seed=turn)

    def line(self, sample: dict[str, Any]) -> str:
        """Return throughput and the medians of the times."""
        first, each = (1e3 * sample[name]["p50"] for name in ("ttft", "tpot"))
        return f"{sample['tokens'] / sample['seconds']:7.1f} tokens/s   TTFT {first:6.0f} ms   TPOT {each:5.0f} ms"


def served(url: str, trace: Trace) -> Report:
    """Return the report of a trace whose answers all came, as long as asked.

    Raise RivalFailed for others: their times compare nothing.
    """
    report = open_loop(url, trace, VOCABULARY)
    pairs = zip(report.outcomes, trace, strict=True)
    failed = sum(not outcome.served or outcome.new_tokens != asked.new_tokens for outcome, asked in pairs)
    if failed:
        raise RivalFailed(f"{failed} of {len(trace)} requests got no whole answer")
    return report


def summed(report: Report) -> dict[str, Any]:
    """Return what is kept of a report: times in seconds."""
    times = {
        metric: {f"p{percent}": round(report.percentile(metric, percent), 5) for percent in (50, 90, 99)}
        for metric in ("ttft", "tpot", "latency")
    }
    tokens = sum(outcome.new_tokens for outcome in report.outcomes)
    return {"seconds": report.seconds, "requests": len(report.outcomes), "tokens": tokens, **times}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=[*SERVERS], metavar="NAME")
    parser.add_argument("--formats", nargs="+", choices=("fp32", "bf16"), default=["fp32"], metavar="NAME")
    parser.add_argument(
        "--rates", nargs="+", type=float, default=[0.5, 1.0, 2.0, 4.0], help="requests per second"
    )
    parser.add_argument("--requests", type=int, default=32, help="requests in a trace (32)")
    parser.add_argument("--turns", type=int, default=3, help="traces for each server and rate (3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each (all cores)")
    parser.add_argument("--minutes", type=float, default=30.0, help="when to stop (30)")
    parser.add_argument("--again", action="store_true", help="forget the samples that are named")


def main(options: argparse.Namespace) -> None:
    """Carry the command out; the last line says how many samples are missing."""
    torch.set_num_threads(options.threads)  # the file of results says so
    results = Results(machine(options.threads), FILE)
    servers = Servers(options, results)
    for format in options.formats if options.again else ():
        for name in options.only:
            results.forget(format, name, [*servers.workloads(format)])
    print(f"{servers.measure(options.formats)} samples are missing")
