"""The one emulation of a process: the loaded stand-in for CANN with the operator table behind it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from helpers.emulated_npu.build import libraries, operator_of
from helpers.emulated_npu.calls import Calls
from helpers.emulated_npu.runtime import Runtime
from helpers.emulated_npu.table import TABLE


class Emulation:
    """A running emulation; `runtime` is its C half, `operators` are the emulated names."""

    def __init__(self) -> None:
        """Load the stand-in and then torch_npu, which finds its symbols there.

        Raises RuntimeError where it cannot.
        """
        _require_a_free_process()
        built = libraries()
        _set_environment(built.cann_home)
        self.runtime = Runtime(built.paths)
        names = {operator_of(query) for query in built.queries}
        self.operators = sorted(name for name in TABLE if name in names)
        asynchronous = _is_asynchronous()
        self.runtime.set_blocking(os.environ["ASCEND_LAUNCH_BLOCKING"] == "1")
        self._calls = Calls(self.runtime, built.queries, TABLE, asynchronous)
        torch_npu = importlib.import_module("torch_npu")
        if asynchronous:
            self._release_the_interpreter(torch_npu.npu_sort_v2)

    @contextmanager
    def trace(self, launched: bool) -> Iterator[list[str]]:
        """Yield the names of kernels that run, or are launched, in the block (`helpers.emulated_npu.trace`)."""
        torch.accelerator.synchronize()
        with self._calls.trace(launched) as names:
            yield names
            torch.accelerator.synchronize()

    def _release_the_interpreter(self, an_aclop: object) -> None:
        """Run one old-style operator (aclop), so that the queue's thread can run Python later.

        Only after an aclop does torch_npu release the interpreter while it waits for the queue.
        """
        self.runtime.allow_aclop(True)
        an_aclop(torch.empty(4, device="npu", dtype=torch.half))  # type: ignore[operator]
        torch.accelerator.synchronize()
        self.runtime.allow_aclop(False)


@cache
def emulation() -> Emulation:
    """Return the process's emulation, started when it is not running yet."""
    return Emulation()


def is_running() -> bool:
    """Return whether the emulated NPU was started in this process."""
    return bool(emulation.cache_info().currsize)


def _require_a_free_process() -> None:
    """Raise RuntimeError where the emulation would get in the way of a real NPU, or comes too late."""
    if any(Path("/dev").glob("davinci[0-9]*")):
        raise RuntimeError("there is a real NPU here; its driver and an emulated CANN cannot share a process")
    if "torch_npu" in sys.modules:
        raise RuntimeError(
            "torch_npu was imported already; start the emulated NPU before anything imports it"
        )


def _set_environment(cann_home: Path) -> None:
    """Set the environment variables that torch_npu reads when it is imported."""
    os.environ.setdefault("ASCEND_LAUNCH_BLOCKING", "1")
    if "ASCEND_HOME_PATH" not in os.environ:
        os.environ["ASCEND_HOME_PATH"] = str(cann_home)
        os.environ["ASCEND_OPP_PATH"] = str(cann_home / "opp")


def _is_asynchronous() -> bool:
    """Return whether torch_npu will launch kernels from its queue's thread."""
    return os.environ["ASCEND_LAUNCH_BLOCKING"] != "1" and os.environ.get("TASK_QUEUE_ENABLE", "1") != "0"
