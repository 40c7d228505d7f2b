"""What a learner costs: seconds to start and bytes of memory, measured for a few and reckoned for a class. Linux only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.classroom.client import Learner

LAB = "course/labs/01_memory_math.ipynb"
STEPS = ("server", "lab 1", "model")
"""What a learner does: a server starts, lab 1 is opened and imports its checks, the model answers in the same kernel."""
OPEN_LAB = "from helpers.checks import lab01, progress"
ASK_MODEL = """
from helpers.model import ConcatCache, chat_prompt, checkpoint, generate
model, tokenizer = checkpoint.load()
generate(model, chat_prompt(tokenizer, "What is the capital of France?"), 20, cache=ConcatCache())
"""


@dataclass(frozen=True)
class Costs:
    """Seconds of each step by learner, and the bytes of the class after each step of each learner.

    `at_rest` is the memory of hub and proxy before anybody came.
    """

    at_rest: int
    seconds: dict[str, list[float]]
    bytes: dict[str, list[int]]

    def each(self, step: str) -> int:
        """Return the bytes that one more learner takes at a step; the first one is left out when there are others."""
        totals = self.bytes[step]
        if len(totals) == 1:
            return totals[0] - self.at_rest
        return (totals[-1] - totals[0]) // (len(totals) - 1)

    def of_class(self, step: str, learners: int) -> int:
        """Return the bytes of a whole class in which all have come to a step."""
        return self.bytes[step][0] + (learners - 1) * self.each(step)


def measure(folder: Path, learners: Sequence[Learner], password: str, steps: Sequence[str] = STEPS) -> Costs:
    """Have learners go through the steps, all through one step before the next; return what it cost.

    Raises RuntimeError where memory cannot be read, which is everywhere but on Linux.
    """
    if sys.platform != "linux":
        raise RuntimeError("memory is measured on Linux alone")
    costs = Costs(class_bytes(folder), {step: [] for step in steps}, {step: [] for step in steps})
    kernels: dict[str, str] = {}
    for step in steps:
        for learner in learners:
            costs.seconds[step].append(_take(step, learner, password, kernels))
            costs.bytes[step].append(class_bytes(folder))
    return costs


def _take(step: str, learner: Learner, password: str, kernels: dict[str, str]) -> float:
    """Return the seconds that one step of one learner takes."""
    began = time.perf_counter()
    if step == "server":
        learner.log_in(password)
        learner.start()
    elif step == "lab 1":
        kernels[learner.name] = learner.open(LAB)
        learner.run(kernels[learner.name], OPEN_LAB)
    else:
        learner.run(kernels[learner.name], ASK_MODEL)
    return time.perf_counter() - began


def report(costs: Costs, learners: int) -> str:
    """Return a table as text: seconds and memory of one more learner, and memory of a class of `learners`."""
    head = f"{'until':8} {'seconds each':>14} {'MiB each':>10} {f'GiB for {learners}':>12}"
    lines = [f"hub and proxy at rest: {costs.at_rest / 2**20:.0f} MiB", head]
    for step, seconds in costs.seconds.items():
        shown = f"{min(seconds):.1f} to {max(seconds):.1f}"
        each, whole = costs.each(step) / 2**20, costs.of_class(step, learners) / 2**30
        lines.append(f"{step:8} {shown:>14} {each:>10.0f} {whole:>12.1f}")
    return "\n".join(lines)


def class_bytes(folder: Path) -> int:
    """Return the memory of all processes of a class; what several processes share is counted once."""
    return sum(_proportional(pid) for pid in processes(folder))


def processes(folder: Path) -> list[int]:
    """Return the ids of all processes of a class: those whose command or environment names its folder."""
    wanted, found = os.fsencode(folder), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and wanted in _words(entry):
            found.append(int(entry.name))
    return found


def _words(process: Path) -> bytes:
    """Return a process's command and environment; nothing for one that has ended or is another user's."""
    try:
        return (process / "cmdline").read_bytes() + b"\0" + (process / "environ").read_bytes()
    except OSError:
        return b""


def _proportional(pid: int) -> int:
    """Return the bytes of a process, of each shared page its share (PSS); 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
