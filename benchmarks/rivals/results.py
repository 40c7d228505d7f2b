"""Samples in one file of results, merged, never mixed between machines or versions; transformers' answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from benchmarks import record

Answers = list[list[int]]


class Results:
    """What is in the file, and what a run adds to it: every sample is written at once.

    `entries[format][workload][name]` has versions and samples by turn, `absent[format][name]` the reason of a
    contender that could not take part.
    """

    def __init__(self, machine: dict[str, Any], file: str = "rivals"):
        """Read `results/FILE.json`. One of another machine, or of other threads, is begun anew."""
        path = record.RESULTS / f"{file}.json"
        self.file = file
        found = json.loads(path.read_text()) if path.exists() else {}
        self.machine = machine
        same = found.get("machine") == machine
        self.entries: dict[str, Any] = found["entries"] if same else {}
        self.absent: dict[str, dict[str, str]] = found["absent"] if same else {}

    def has(self, format: str, workload: str, name: str, turn: int) -> bool:
        """Return whether a sample is there."""
        return str(turn) in self._entry(format, workload, name).get("samples", {})

    def longest(self, format: str, workload: str, name: str) -> float:
        """Return the seconds of a contender's longest sample; 0 without one."""
        samples = self._entry(format, workload, name).get("samples", {})
        return max((float(sample["seconds"]) for sample in samples.values()), default=0.0)

    def add(
        self,
        format: str,
        workload: str,
        name: str,
        turn: int,
        versions: dict[str, str],
        sample: dict[str, Any],
    ) -> None:
        """Write one sample. Samples of other versions of this contender go."""
        entry = self._entry(format, workload, name)
        if entry.get("versions") != versions:
            entry = {"versions": versions, "samples": {}}
        entry["samples"][str(turn)] = sample
        self.entries.setdefault(format, {}).setdefault(workload, {})[name] = entry
        self.absent.get(format, {}).pop(name, None)
        self.write()

    def miss(self, format: str, name: str, reason: str) -> None:
        """Write why a contender has no sample in this format."""
        self.absent.setdefault(format, {})[name] = reason
        self.write()

    def forget(self, format: str, name: str, workloads: list[str]) -> None:
        """Drop a contender's samples and why it was absent; they go from the file with the next sample."""
        self.absent.get(format, {}).pop(name, None)
        for workload in workloads:
            self.entries.get(format, {}).get(workload, {}).pop(name, None)

    def write(self) -> Path:
        """Write the file, and return its path."""
        content = {"machine": self.machine, "entries": self.entries, "absent": self.absent}
        return record.write(self.file, content, ("torch", "transformers"))

    def _entry(self, format: str, workload: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.entries.get(format, {}).get(workload, {}).get(name, {})
        return found


class Truth:
    """transformers' answers in fp32, kept by what was asked, so that later slices compare with them, too."""

    def __init__(self, folder: Path):
        """Answers are kept in `folder`."""
        self.folder = folder

    def keep(self, asked: dict[str, Any], answers: Answers) -> None:
        """Write the answers to a call."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path(asked).write_text(json.dumps(answers))

    def equal(self, asked: dict[str, Any], answers: Answers) -> list[int] | None:
        """Return how many answers equal transformers', and of how many; None where those are unknown."""
        if not self._path(asked).exists():
            return None
        truth = json.loads(self._path(asked).read_text())
        return [sum(a == b for a, b in zip(truth, answers, strict=True)), len(truth)]

    def _path(self, asked: dict[str, Any]) -> Path:
        return (
            self.folder
            / f"{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]}.json"
        )
