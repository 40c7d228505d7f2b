"""The command: `python -m benchmarks.rivals --help`."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import time
from contextlib import ExitStack

import torch

import benchmarks.rivals
from benchmarks import record
from benchmarks.rivals.contenders import CONTENDERS, FORMATS, start
from benchmarks.rivals.environments import folder, python_of
from benchmarks.rivals.models import located
from benchmarks.rivals.process import OtherLoad, OutOfTime, Rival, RivalFailed
from benchmarks.rivals.results import Results, Truth
from benchmarks.rivals.workloads import WORKLOADS, of_format


class Slice:
    """One run of the command: contenders that are loaded, and the time that is left."""

    def __init__(self, options: argparse.Namespace, results: Results, truth: Truth):
        """Begin now."""
        self.options, self.results, self.truth = options, results, truth
        self.end = time.monotonic() + 60 * options.minutes
        self.rivals: dict[str, tuple[Rival, dict[str, str]]] = {}

    def left(self) -> float:
        """Return the seconds that are left. Raise OutOfTime when there are none."""
        if (seconds := self.end - time.monotonic()) <= 0:
            raise OutOfTime
        return seconds

    def missing(self, format: str) -> list[tuple[str, int, str]]:
        """Return what the file does not have, in the order of measuring: workload, turn and contender."""
        out = self.results.absent.get(format, {})
        names = [name for name in self.options.only if format in CONTENDERS[name].models and name not in out]
        return [
            (workload, turn, name)
            for workload in self.options.workloads or of_format(format)
            for turn in range(self.options.turns)
            for name in names
            if not self.results.has(format, workload, name, turn)
        ]

    def measure(self, format: str) -> None:
        """Take all missing samples of a format. OutOfTime where the slice ends before."""
        with ExitStack() as stack:
            for workload, turn, name in self.missing(format):
                if name in self.results.absent.get(format, {}):
                    continue
                try:
                    self.sample(stack, format, workload, turn, name)
                except RivalFailed as reason:
                    self.results.miss(format, name, str(reason))
                    print(f"{format:<5} {name:<15} {reason}", flush=True)
        self.rivals = {}

    def sample(self, stack: ExitStack, format: str, workload: str, turn: int, name: str) -> None:
        """Take one sample, and write it."""
        if self.left() < self.results.longest(format, workload, name):
            raise OutOfTime
        if name not in self.rivals:
            rival, versions = start(name, format, self.options.threads, self.left)
            self.rivals[name] = stack.enter_context(rival), versions
        rival, versions = self.rivals[name]
        asked = WORKLOADS[workload].asked(turn)
        with OtherLoad(rival.pid) as others:
            found = rival.ask(WORKLOADS[workload].call, self.left(), **asked)
        if (name, format) == ("transformers", "fp32"):
            self.truth.keep({workload: asked}, found["answers"])
        sample = {
            "seconds": found["seconds"],
            "tokens": found["tokens"],
            "other cores": round(others.cores, 2),
        }
        sample |= {
            "equal": self.truth.equal({workload: asked}, found["answers"]),
            "day": str(datetime.date.today()),
        }
        self.results.add(format, workload, name, turn, versions, sample)
        speed = found["tokens"] / found["seconds"]
        print(f"{format:<5} {workload:<11} turn {turn} {name:<15} {found['seconds']:7.2f} s {speed:8.1f} tokens/s"
              f"   others {others.cores:.2f} cores   equal {sample['equal']}", flush=True)  # fmt: skip


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
    part = Slice(options, results, Truth(folder() / "answers"))
    try:
        for format in options.formats:
            part.measure(format)
    except OutOfTime:
        print("the time is up; the same command goes on from here", flush=True)
    return sum(len(part.missing(format)) for format in options.formats)


def machine(threads: int) -> dict[str, object]:
    """Return what all samples of the file have in common."""
    found = record.environment()
    return {name: found[name] for name in ("platform", "processor", "cpus")} | {"threads": threads}


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
