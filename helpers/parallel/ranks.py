"""Start ranks from a notebook or a program: processes that join one group and run the same function.

Processes are spawned, never forked: torch's threads do not survive a fork. A function must live in a module,
because a spawned process imports it by name.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import torch.distributed as dist

from helpers.parallel.rank_process import Answer, Function, Place, in_collective, main

_GRACE = 3.0  # seconds that the cause of a failed wait may come after its echo
_TO_WRITE = 10.0  # seconds in which a rank on a busy machine writes down where it stands
_STACK = "most recent call first"  # what `faulthandler` writes above a stack
_LAST_WORDS = 2000


class RankFailed(RuntimeError):
    """The first rank at fault, and its error; all ranks of the group were stopped."""

    def __init__(self, rank: int, world: int, text: str):
        """Name the rank, counted from 0."""
        super().__init__(f"rank {rank} of {world}: {text}")
        self.rank = rank


class Ranks:
    """A group of processes, `world` ranks, which run one function after the other: `ranks.run(function, *args)`.

    What a function leaves in its module stays there for the next function. Use the group in a `with` statement, or call
    `close`. No process stays: not after an error, Ctrl-C, or SIGKILL of this process.
    """

    def __init__(self, world: int, threads: int = 1, limit: float = 60.0, device: str | None = None):
        """Start `world` processes of `threads` threads each; they import in the background.

        A collective waits `limit` seconds for other ranks, and so does the slowest rank's answer for the first one's.
        `device` is a name as in `choose_device` (default: what `COURSE_DEVICE` says, else the CPU).
        Raises ValueError, before a process starts, for sizes that are not above 0.
        """
        if min(world, threads) < 1 or not limit > 0:
            raise ValueError(f"ranks, threads and seconds must be above 0, got {world}, {threads}, {limit}")
        self.world, self.limit = world, limit
        device = device or os.environ.get("COURSE_DEVICE", "").strip() or "cpu"
        # The parent has the store and its port: no two programs race for one.
        self._store = dist.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", 0, world, is_master=True, wait_for_workers=False
        )
        self._folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        self._processes: list[SpawnProcess] = []
        self._pipes: list[Connection] = []
        try:
            for rank in range(world):
                log = str(self._log(rank))
                self._start(Place(rank, world, self._store.port, threads, limit, log, device))
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Return the numbers of the ranks' processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    def run(self, function: Function, *args: Any, timeout: float = 600.0) -> list[Any]:
        """Return what `function(*args)` returns on each rank, in the order of ranks.

        Raises RankFailed, naming the first rank at fault, when a rank raises, dies, or gives no answer in time. The group
        is closed then. Raises ValueError for a function that no other process can import, and for a closed group.
        """
        if not self._processes:
            raise ValueError("these ranks have ended; start new ones")
        message = _message(function, args)
        try:
            for pipe in self._pipes:
                with contextlib.suppress(OSError):  # a rank that has ended is named below
                    pipe.send_bytes(message)
            return self._collect(timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop all ranks at once; a closed group stays closed."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
            process.close()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, place: Place) -> None:
        """Start one rank's process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(place, theirs), daemon=True, name=f"rank {place.rank}")
        self._pipes.append(ours)
        process.start()
        self._processes.append(process)
        theirs.close()

    def _collect(self, timeout: float) -> list[Any]:
        """Return all values; raise RankFailed at the first fault."""
        answers: dict[int, Answer] = {}
        end = time.monotonic() + timeout
        while len(answers) < self.world:
            if not self._receive(answers, end - time.monotonic()):
                raise self._silent(answers, "gave no answer in time")
            if any(answer.kind != "value" for answer in answers.values()):
                raise self._fault(answers)
            end = min(end, time.monotonic() + self.limit)
        return [answers[rank].value for rank in range(self.world)]

    def _receive(self, answers: dict[int, Answer], seconds: float) -> bool:
        """Add answers that come within so many seconds; return whether one came."""
        missing = {pipe: rank for rank, pipe in enumerate(self._pipes) if rank not in answers}
        ready = wait(list(missing), max(0.0, seconds))
        for pipe, rank in missing.items():
            if pipe in ready:
                answers[rank] = self._answer(rank, pipe)
        return bool(ready)

    def _answer(self, rank: int, pipe: Connection) -> Answer:
        """Return what a rank has sent, or how its process ended."""
        with contextlib.suppress(EOFError, OSError):
            answer: Answer = pickle.loads(pipe.recv_bytes())
            return answer
        self._processes[rank].join(30)
        code = self._processes[rank].exitcode
        return Answer("died", None, f"ended without an answer, exit code {code}")

    def _fault(self, answers: dict[int, Answer]) -> RankFailed:
        """Return the first fault: a rank's own error or death comes before a failed wait for others."""
        end = time.monotonic() + _GRACE
        while not (own := [r for r, a in answers.items() if a.kind in ("error", "died")]):
            if len(answers) == self.world or not self._receive(answers, end - time.monotonic()):
                break
        if not own and len(answers) < self.world:
            return self._silent(answers, "gave no answer while another rank waited for it")
        rank = own[0] if own else next(r for r, a in answers.items() if a.kind == "waited")
        return RankFailed(rank, self.world, answers[rank].text + self._said(rank))

    def _silent(self, answers: dict[int, Answer], what: str) -> RankFailed:
        """Return the fault of a rank without an answer: first one that does not itself wait for others."""
        silent = [rank for rank in range(self.world) if rank not in answers]
        for rank in silent:
            if (pid := self._processes[rank].pid) and hasattr(signal, "SIGUSR1"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)  # the rank writes down where it stands
        end = time.monotonic() + _TO_WRITE
        while not all(_STACK in self._said(rank) for rank in silent) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.1)  # the rest of a stack whose beginning is there
        said = {rank: self._said(rank) for rank in silent}
        rank = next((r for r in silent if not in_collective(said[r])), silent[0])
        return RankFailed(rank, self.world, what + said[rank])

    def _log(self, rank: int) -> Path:
        """Return the file that has what a rank wrote to stdout and stderr."""
        return self._folder / f"rank{rank}.log"

    def _said(self, rank: int) -> str:
        """Return the end of what a rank wrote to stdout and stderr, with a heading; empty for a rank that wrote nothing."""
        with contextlib.suppress(OSError):
            if text := self._log(rank).read_text(errors="replace").strip():
                return f"\nit wrote:\n{text[-_LAST_WORDS:]}"
        return ""


def run_ranks(function: Function, world: int, *args: Any, threads: int = 1, limit: float = 60.0) -> list[Any]:
    """Return what `function(*args)` returns on each of `world` ranks, which live for this call alone.

    Errors as in `Ranks.run`.
    """
    with Ranks(world, threads, limit) as ranks:
        return ranks.run(function, *args)


def _message(function: Function, args: tuple[Any, ...]) -> bytes:
    """Return a call as plain pickle bytes; raise ValueError for a function that no other process can import."""
    name = getattr(function, "__qualname__", repr(function))
    if getattr(function, "__module__", "__main__") == "__main__" or "<" in name:
        raise ValueError(
            f"{name} is not in a module; a rank imports its function by name, so write it into a file"
        )
    try:
        return pickle.dumps((function, args))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"the arguments of {name} cannot be sent to another process: {error}") from error
