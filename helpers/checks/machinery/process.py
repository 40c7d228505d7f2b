"""A check in a process of its own: code that never gives the interpreter back is ended, and the kernel lives on.

The process is a fork of the kernel, so that it starts in some milliseconds and knows all that the learner has defined and
imported. It is used on Linux; elsewhere (a fork is unsafe on macOS, and Windows has none) code runs in a thread.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch

from helpers.checks.machinery.failure import CheckFailed

MEMORY = 2 * 2**30
"""Bytes that a check may take beyond what the kernel has."""
LONGEST = 60.0
"""Seconds after which a check is ended, whatever it does."""
_PRINTED = 4000
_HEAD, _ROOM = struct.Struct("ddI"), 4096


class Watch:
    """Seconds that the answer has taken so far, and what it works on, in memory that two processes share."""

    def __init__(self) -> None:
        """Take the memory."""
        self._memory = mmap.mmap(-1, _ROOM)
        self._spent, self._began = 0.0, 0.0

    def begin(self, what: str) -> None:
        """Note that a call of the answer begins, and for which arguments."""
        text = what.encode()[: _ROOM - _HEAD.size]
        self._began = time.monotonic()
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        self._memory[: _HEAD.size] = _HEAD.pack(self._began, self._spent, len(text))

    def end(self) -> None:
        """Note that the call has ended."""
        self._spent += time.monotonic() - self._began
        self._memory[: _HEAD.size] = _HEAD.pack(0.0, self._spent, 0)

    def seconds(self) -> float:
        """Return the seconds in all calls so far, the present one included."""
        began, spent, _ = _HEAD.unpack(self._memory[: _HEAD.size])
        return float(spent + (time.monotonic() - began if began else 0.0))

    def what(self) -> str:
        """Return the arguments of the present call, in words."""
        length = _HEAD.unpack(self._memory[: _HEAD.size])[2]
        return self._memory[_HEAD.size : _HEAD.size + length].decode(errors="ignore")


_watches: list[Watch] = []
"""The watch of this process, when it is one that was made for a check."""


def watch() -> Watch | None:
    """Return the watch of this process; None in the kernel itself."""
    return _watches[-1] if _watches else None


def possible() -> bool:
    """Return whether checks run in processes here; `COURSE_CHECK_PROCESS=0` says no."""
    return sys.platform == "linux" and os.environ.get("COURSE_CHECK_PROCESS", "1") != "0"


def isolated(body: Callable[[], None], seconds: float) -> None:
    """Call `body` in a fork of this process. Raises the CheckFailed that it raised, or one that says why it was ended."""
    shared = Watch()
    reading, writing = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: the kernel has threads
        child = os.fork()
    if not child:
        os.close(reading)
        _live(body, shared, writing)
    os.close(writing)
    try:
        told = _heard(reading, shared, seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _tell(told)


def _heard(reading: int, shared: Watch, seconds: float) -> dict[str, Any]:
    """Return what the check's process says. Raises CheckFailed when its time is up or it has died."""
    parts, end = list[bytes](), time.monotonic() + LONGEST
    while True:
        if select.select([reading], [], [], 0.05)[0]:
            part = os.read(reading, 1 << 16)
            if not part:
                break
            parts.append(part)
        elif shared.seconds() > seconds or time.monotonic() > end:
            what = shared.what()
            broken = f"it did not end within {seconds:g} seconds" + (f"\n  for:      {what}" if what else "")
            raise CheckFailed(
                broken, hint="Is there a loop that never ends? Or a number that is far too large?"
            )
    if not parts:
        what = shared.what()
        broken = "it ended the process in which the check runs" + (f"\n  for:      {what}" if what else "")
        raise CheckFailed(broken, hint="Does it leave Python, or take far too much memory?")
    said: dict[str, Any] = pickle.loads(b"".join(parts))
    return said


def _tell(told: dict[str, Any]) -> None:
    """Print what was printed. Raises CheckFailed with the message that was told."""
    printed = told["printed"]
    if printed:
        print(
            printed if len(printed) <= _PRINTED else f"{printed[:_PRINTED]}\n... and more was printed", end=""
        )
    if told["bug"]:
        raise RuntimeError(f"the check itself failed:\n{told['bug']}")
    if not told["done"]:
        failure = CheckFailed(told["broken"], hint=told["hint"])
        failure.args = (told["text"],)
        raise failure


def _live(body: Callable[[], None], shared: Watch, writing: int) -> None:
    """Do the check in the new process, say how it went, and leave without any cleaning up that is the kernel's."""
    told: dict[str, Any] = dict(done=False, broken="", hint="", text="", bug="", printed="")
    printed = io.StringIO()
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the kernel hears it, and ends this process
        torch.set_num_threads(1)  # the threads of the kernel's torch do not exist here
        _bound_memory()
        _watches.append(shared)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            body()
        told["done"] = True
    except CheckFailed as failure:
        told.update(broken=failure.broken, hint=failure.hint, text=str(failure))
    except BaseException:
        told["bug"] = traceback.format_exc()
    finally:
        told["printed"] = printed.getvalue()[: 2 * _PRINTED]
        with contextlib.suppress(OSError), os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(told))
        os._exit(0)


def _bound_memory() -> None:
    """Bound what this process may take."""
    import resource

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))
