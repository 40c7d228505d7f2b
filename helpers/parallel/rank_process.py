"""One rank's process: it joins the group, runs functions that the parent sends, and ends when the parent ends."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

from helpers.machine.device import choose_device

_device = torch.device("cpu")  # of this process's rank
Function = Callable[..., Any]


@dataclass(frozen=True)
class Answer:
    """What one rank made of one function: a value, an error of its own, a failed wait for others, or its death."""

    kind: Literal["value", "error", "waited", "died"]
    value: Any = None
    text: str = ""
    """The error in one line, then its traceback or the last words on stderr."""


@dataclass(frozen=True)
class Place:
    """Where a rank stands in its group, and what its process may use."""

    rank: int
    world: int
    port: int
    """Port of the parent's store on this machine, where the ranks find each other."""
    threads: int
    limit: float
    """Seconds that a collective waits for other ranks."""
    log: str
    """File that gets what the rank writes to stdout and stderr."""
    device: str = "cpu"
    """Device of the ranks, as in `choose_device`."""


def main(place: Place, pipe: Connection) -> None:
    """Serve the parent until its end of `pipe` closes; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    threading.Thread(target=_end_with_parent, args=(place.log,), daemon=True).start()
    _write_to(place.log)
    torch.set_num_threads(place.threads)
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe
        while True:
            message = pipe.recv_bytes()
            pipe.send_bytes(_answer(place, message))
    _remove(place.log)  # the parent may have been killed: then this thread can be first to end
    os._exit(0)


def _answer(place: Place, message: bytes) -> bytes:
    """Return the answer to one message, as plain pickle bytes.

    The pickler of `multiprocessing` would share a tensor's memory, which ends with this process.
    """
    try:
        if not dist.is_initialized():
            _join(place)
        function, args = pickle.loads(message)
        return pickle.dumps(Answer("value", function(*args)))
    except BaseException as error:  # SystemExit, too: the parent names the rank and stops all
        kind: Literal["error", "waited"] = "waited" if _in_collective(error) else "error"
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        return pickle.dumps(Answer(kind, None, text))


def own_device() -> torch.device:
    """Return the device of this process's rank; the CPU in a process that is no rank."""
    return _device


def _join(place: Place) -> None:
    """Join the group of all ranks: gloo, over the loopback interface, and for another device that device's library.

    Tensors then travel by where they lie: those on the CPU through gloo.
    """
    global _device
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    os.environ.setdefault("HCCL_EXEC_TIMEOUT", str(max(1, int(place.limit) - 1)))
    # As torchrun does: errors of the device's library name this rank.
    os.environ.update(RANK=str(place.rank), WORLD_SIZE=str(place.world))
    _device = _chosen(place)
    backend = "gloo"
    if _device.type != "cpu":
        backend = f"cpu:gloo,{_device.type}:{dist.get_default_backend_for_device(_device)}"
    limit = timedelta(seconds=place.limit)
    store = dist.TCPStore("127.0.0.1", place.port, place.world, is_master=False, timeout=limit)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world, timeout=limit)


def _chosen(place: Place) -> torch.device:
    """Return a rank's device: where a machine has several, ranks take turns."""
    device = choose_device(place.device)
    if device.type == "cpu":
        return device
    index = ((device.index or 0) + place.rank) % torch.accelerator.device_count()
    torch.accelerator.set_device_index(index)
    return torch.device(device.type, index)


def _in_collective(error: BaseException) -> bool:
    """Return whether torch.distributed raised: such an error is mostly the echo of another rank's fault.

    An asynchronous launch's error comes later, from the call that needs its result. The library's name is in it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    raised_there = bool(frames) and in_collective(frames[-1].filename)
    return isinstance(error, RuntimeError) and (raised_there or "HCCL: rank" in str(error))


def in_collective(text: str) -> bool:
    """Return whether a file's path, or a printed stack, is of torch.distributed."""
    return "torch/distributed/" in text.replace(os.sep, "/")


def _write_to(log: str) -> None:
    """Send stdout and stderr, also of C++ before it aborts, to a file; so does SIGUSR1 with all stacks."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=2)


def _end_with_parent(log: str) -> None:
    """End this process, however the parent went, SIGKILL included."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    _remove(log)
    os._exit(1)


def _remove(log: str) -> None:
    """Remove this rank's log; the last rank removes the folder of logs."""
    with contextlib.suppress(OSError):
        Path(log).unlink()
    with contextlib.suppress(OSError):
        Path(log).parent.rmdir()
