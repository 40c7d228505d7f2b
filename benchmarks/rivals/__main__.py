"""The command: `python -m benchmarks.rivals --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import torch

import benchmarks.rivals
from benchmarks.rivals.contenders import CONTENDERS, FORMATS, start
from benchmarks.rivals.environments import folder, python_of
from benchmarks.rivals.models import located
from benchmarks.rivals.process import Rival, RivalFailed
from benchmarks.rivals.results import Results, Truth
from benchmarks.rivals.slice import Slice, machine
from benchmarks.rivals.workloads import WORKLOADS, of_format


class Engines(Slice):
    """Engines that are driven by lines of JSON; answers are compared with transformers'."""

    def __init__(self, options: argparse.Namespace, results: Results, truth: Truth):
        """Begin now."""
        super().__init__(options, results)
        self.truth = truth

    def workloads(self, format: str) -> Sequence[str]:
        """Return those that the command names, else all of the format."""
        return self.options.workloads or of_format(format)

    def start(self, name: str, format: str) -> tuple[Rival, dict[str, str]]:
        """Return a contender's process, loaded and warm, and its versions."""
        return start(name, format, self.options.threads, self.left)

    def taken(self, rival: Rival, format: str, workload: str, turn: int, name: str) -> dict[str, Any]:
        """Return seconds, tokens, and how many answers equal transformers'."""
        asked = WORKLOADS[workload].asked(turn)
        found = rival.ask(WORKLOADS[workload].call, self.left(), **asked)
        if (name, format) == ("transformers", "fp32"):
            self.truth.keep({workload: asked}, found["answers"])
        equal = self.truth.equal({workload: asked}, found["answers"])
        return {"seconds": found["seconds"], "tokens": found["tokens"], "equal": equal}

    def line(self, sample: dict[str, Any]) -> str:
        """Return tokens per second, and how many answers are equal."""
        return f"{sample['tokens'] / sample['seconds']:8.1f} tokens/s   equal {sample['equal']}"


def prepare(names: list[str], formats: list[str]) -> None:
    """Make environments and convert models; a line for each that cannot be had."""
    for name in names:
        contender = CONTENDERS[name]
        try:
            if contender.environment:
                python_of(contender.environment)
            for format in formats:
                if format in contender.models:
                    print(f"{name}, {format}: {located(contender.models[format])}", flush=True)
        except RivalFailed as reason:
            print(f"{name}: {reason}", flush=True)


def run(options: argparse.Namespace) -> int:
    """Measure until nothing is missing or the time is up; return the number of missing samples."""
    results = Results(machine(options.threads))
    for format in options.formats if options.again else ():
        for name in options.only:
            results.forget(format, name, options.workloads or of_format(format))
    return Engines(options, results, Truth(folder() / "answers")).measure(options.formats)


def words(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rivals", description=benchmarks.rivals.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    lists = (
        ("only", CONTENDERS, [*CONTENDERS]),
        ("formats", FORMATS, [*FORMATS]),
        ("workloads", WORKLOADS, []),
    )
    for name, choices, default in lists:
        parser.add_argument(f"--{name}", nargs="+", choices=[*choices], default=default, metavar="NAME",
                            help=", ".join(choices))  # fmt: skip
    parser.add_argument("--turns", type=int, default=3, help="samples of each (3)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="threads of each contender (all cores)"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop (9)")
    parser.add_argument(
        "--again", action="store_true", help="forget the samples that are named, and take them anew"
    )
    parser.add_argument("--prepare", action="store_true", help="install and convert, measure nothing")
    return parser.parse_args(arguments)


def main() -> None:
    """Carry the command out; the last line says how many samples are missing."""
    options = words()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that all processes are ended
    if options.prepare:
        return prepare(options.only, options.formats)
    torch.set_num_threads(options.threads)
    try:
        missing = run(options)
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted; the same command goes on from here") from None
    print(
        f"{missing} samples are missing" if missing else "all samples are there: python tools/rivals_table.py"
    )


if __name__ == "__main__":
    main()
