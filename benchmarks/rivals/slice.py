"""One run of a benchmark of several contenders: turns, the time that is left, and samples written at once."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import record
from benchmarks.rivals.contenders import CONTENDERS
from benchmarks.rivals.process import OtherLoad, OutOfTime, Rival, RivalFailed
from benchmarks.rivals.results import Results


class Slice:
    """Take the samples that a file of results does not have, until the time is up.

    A benchmark says what it measures: `workloads`, `start`, `taken` and `line`. Contenders stay loaded.
    """

    def __init__(self, options: argparse.Namespace, results: Results):
        """Begin now. The options are `only`, `turns`, `threads` and `minutes`."""
        self.options, self.results = options, results
        self.end = time.monotonic() + 60 * options.minutes
        self.rivals: dict[str, tuple[Rival, dict[str, str]]] = {}

    def workloads(self, format: str) -> Sequence[str]:
        """Return the names of what is measured in a format."""
        raise NotImplementedError

    def start(self, name: str, format: str) -> tuple[Rival, dict[str, str]]:
        """Return a contender's process, ready, and its versions. Raise RivalFailed or OutOfTime."""
        raise NotImplementedError

    def taken(self, rival: Rival, format: str, workload: str, turn: int, name: str) -> dict[str, Any]:
        """Return one sample, with `seconds`. Raise RivalFailed or OutOfTime."""
        raise NotImplementedError

    def line(self, sample: dict[str, Any]) -> str:
        """Return a sample in words."""
        raise NotImplementedError

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
            for workload in self.workloads(format)
            for turn in range(self.options.turns)
            for name in names
            if not self.results.has(format, workload, name, turn)
        ]

    def measure(self, formats: Sequence[str]) -> int:
        """Take samples until none is missing or the time is up; return the number of missing samples."""
        try:
            for format in formats:
                self._measure(format)
        except OutOfTime:
            print("the time is up; the same command goes on from here", flush=True)
        return sum(len(self.missing(format)) for format in formats)

    def _measure(self, format: str) -> None:
        """Take all missing samples of a format. OutOfTime where the slice ends before."""
        with ExitStack() as stack:
            for workload, turn, name in self.missing(format):
                if name in self.results.absent.get(format, {}):
                    continue
                try:
                    self._sample(stack, format, workload, turn, name)
                except RivalFailed as reason:
                    self.results.miss(format, name, str(reason))
                    print(f"{format:<5} {name:<15} {reason}", flush=True)
        self.rivals = {}

    def _sample(self, stack: ExitStack, format: str, workload: str, turn: int, name: str) -> None:
        """Take one sample, and write it."""
        if self.left() < self.results.longest(format, workload, name):
            raise OutOfTime
        if name not in self.rivals:
            rival, versions = self.start(name, format)
            self.rivals[name] = stack.enter_context(rival), versions
        rival, versions = self.rivals[name]
        with OtherLoad(rival.pid) as others:
            sample = self.taken(rival, format, workload, turn, name)
        sample |= {"other cores": round(others.cores, 2), "day": str(datetime.date.today())}
        self.results.add(format, workload, name, turn, versions, sample)
        print(f"{format:<5} {workload:<11} turn {turn} {name:<15} {sample['seconds']:7.2f} s {self.line(sample)}"
              f"   others {others.cores:.2f} cores", flush=True)  # fmt: skip


def machine(threads: int) -> dict[str, object]:
    """Return what all samples of a file have in common."""
    found = record.environment()
    return {name: found[name] for name in ("platform", "processor", "cpus")} | {"threads": threads}
