"""Our side of the pipe: a rival as a process in its own environment, and the machine's other load."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.transformers_batches import Answers, Job


class RivalFailed(RuntimeError):
    """A rival gave no answer; the message is one sentence with its reason."""


class OutOfTime(Exception):
    """A rival had no answer when the time was up; its process has been ended."""


class Rival:
    """A process that answers calls; the end of a `with` block ends it. Its stderr goes to the file `log`."""

    def __init__(self, command: Sequence[str], log: Path, threads: int = 1):
        """Start the process. OMP_NUM_THREADS is set there; other variables are as they are here."""
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._late = log, False
        variables = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=variables, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def ask(self, call: str, limit: float | None = None, **arguments: Any) -> Any:
        """Return a call's result. Raise RivalFailed for a problem, OutOfTime after `limit` seconds."""
        clock = threading.Timer(limit, self._too_late) if limit is not None else None
        if clock is not None:
            clock.start()
        try:
            line = self._exchange(json.dumps({"call": call, **arguments}))
        finally:
            if clock is not None:
                clock.cancel()
        if self._late:
            raise OutOfTime
        if not line:
            raise RivalFailed(f"{call}: the process has ended; its last words: {self._last_words()}")
        answer = json.loads(line)
        if "problem" in answer:
            raise RivalFailed(answer["problem"])
        return answer["result"]

    def serve(self, jobs: Sequence[Job]) -> Answers:
        """Return the answers to all jobs, asked at once."""
        found = self.ask(
            "requests", prompts=[job.prompt for job in jobs], lengths=[job.new_tokens for job in jobs]
        )
        answers: Answers = found["answers"]
        return answers

    def close(self) -> None:
        """End the process and those that it started."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it may end at this moment by itself
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Rival:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, line: str) -> str:
        """Return the line that answers `line`; an empty one where the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline()

    def _too_late(self) -> None:
        self._late = True
        self.close()

    def _last_words(self) -> str:
        """Return the last line on stderr."""
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return said[-1].strip()[:200] if said else "none"


class OtherLoad:
    """How many cores other programs used in a `with` block: `cores`.

    What this process used is left out, and what the rival in turn used; idle rivals count as others.
    """

    cores = 0.0

    def __init__(self, pid: int):
        """`pid` is the rival's process."""
        self._rival = psutil.Process(pid)

    def __enter__(self) -> OtherLoad:
        self._begin = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        wall, busy, own = (b - a for a, b in zip(self._begin, self._now(), strict=True))
        self.cores = max(0.0, busy - own) / wall

    def _now(self) -> tuple[float, float, float]:
        """Return seconds of the clock, of all processors while busy, and of this process and the rival's."""
        times, own = psutil.cpu_times(), 0.0
        idle = ("idle", "iowait", "guest", "guest_nice")  # guests are counted as users, too
        busy = sum(times) - sum(getattr(times, name, 0.0) for name in idle)
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (psutil.Process(), self._rival, *self._rival.children(recursive=True)):
                used = process.cpu_times()
                own += used.user + used.system
        return time.perf_counter(), busy, own
