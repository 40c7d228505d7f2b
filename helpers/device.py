"""The device: which one, waiting for it, timing on it, and how much of its memory is in use."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

_NAMES = ("npu", "cuda", "cpu")
_EMULATED = "emulated-npu"


def choose_device(name: torch.device | str | None = None) -> torch.device:
    """The device to run on: `name`, or `COURSE_DEVICE`, or the first of npu, cuda, cpu that is here.

    `emulated-npu`, which must be asked for, starts the emulated NPU (`helpers.emulated_npu`) and is an `npu` from then on.
    Raises ValueError for a name that is unknown and RuntimeError for a device that is asked for and absent.
    """
    wanted = str(name or os.environ.get("COURSE_DEVICE", "").strip() or _first_present())
    if wanted == _EMULATED:
        importlib.import_module("helpers.emulated_npu").start()
        return torch.device("npu", 0)
    kind = wanted.split(":")[0]
    if kind not in _NAMES:
        known = ", ".join((*_NAMES, _EMULATED))
        raise ValueError(f"unknown device {wanted!r}; COURSE_DEVICE may be one of {known}")
    if not _present(kind):
        raise RuntimeError(f"device {wanted!r} was asked for, but there is none that torch can use")
    return torch.device(wanted)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was given; a CPU has nothing outstanding."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Stopwatch:
    """Seconds that a block took on a device, by a monotonic clock: `with Stopwatch(device) as watch: …; watch.seconds`."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        """Starts when the device is idle."""
        synchronize(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops when the device is idle again."""
        synchronize(self.device)
        self.seconds = time.perf_counter() - self._start


class Lap:
    """Seconds between marks on a device: `lap.mark()` each time something is done, `lap.seconds()` at the end.

    A CPU's marks are readings of a monotonic clock. An accelerator's are events in its queue, so that a mark neither waits
    for the device nor counts what the host does meanwhile.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._marks: list[torch.Event | float] = []

    def mark(self) -> None:
        """Now, or on an accelerator: when everything ordered so far is done."""
        if self._device.type == "cpu":
            self._marks.append(time.perf_counter())
            return
        event = torch.Event(device=self._device, enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """The times between neighbouring marks."""
        synchronize(self._device)
        return [_between(first, second) for first, second in pairwise(self._marks)]


def _between(first: torch.Event | float, second: torch.Event | float) -> float:
    """Seconds from one mark to the next; events count milliseconds."""
    if isinstance(first, torch.Event) and isinstance(second, torch.Event):
        return float(first.elapsed_time(second)) / 1e3
    return float(second) - float(first)  # type: ignore[arg-type]  # the marks of one lap are of one kind


@contextmanager
def device_trace(device: torch.device, folder: Path) -> Iterator[None]:
    """Writes a profile of the block into `folder`: by torch_npu's profiler on an NPU, else by torch's, as `trace.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == "npu":
        with importlib.import_module("helpers.ops.npu_profiler").npu_trace(folder):
            yield
        return
    with torch.profiler.profile() as profiler:
        yield
    profiler.export_chrome_trace(str(folder / "trace.json"))


@dataclass
class MemoryPeak:
    """What a block of code allocated at its worst moment, in bytes above what was in use before it."""

    nbytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[MemoryPeak]:
    """Measures a block's peak of tensor memory: `with peak_memory(device) as peak: …; peak.nbytes`.

    An accelerator's allocator counts by itself. A CPU's does not: there torch's profiler records every allocation and
    release (which slows the block down), scratch memory inside operators included, libraries' own buffers not.
    """
    peak = MemoryPeak()
    if device.type == "cpu":
        with _profiled(peak):
            yield peak
        return
    synchronize(device)
    torch.accelerator.reset_peak_memory_stats(device)
    before = torch.accelerator.memory_allocated(device)
    yield peak
    synchronize(device)
    peak.nbytes = torch.accelerator.max_memory_allocated(device) - before


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device (for a CPU: the machine) has."""
    if device.type == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(torch.accelerator.get_memory_info(device)[1])


def describe(device: torch.device) -> str:
    """A short name for the device, with its memory in GiB."""
    kind = "CPU" if device.type == "cpu" else torch.get_device_module(device).get_device_name(device)
    kind = f"emulated NPU as {kind} (times mean nothing)" if is_emulated(device) else kind
    threads = torch.get_num_threads()
    cores = f", {threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else ""
    return f"{kind}{cores}, {total_memory(device) / 2**30:.1f} GiB"


def is_emulated(device: torch.device) -> bool:
    """Whether the device is the emulated NPU."""
    module = sys.modules.get("helpers.emulated_npu")
    return device.type == "npu" and module is not None and bool(module.running())


def repeats(device: torch.device, wanted: int) -> int:
    """How often to time something: `wanted`, or once on the emulated NPU, whose times mean nothing."""
    return 1 if is_emulated(device) else wanted


def where_it_ran(device: torch.device) -> str:
    """One sentence on which hardware a result comes from, for every section that speaks of NPUs."""
    if is_emulated(device):
        return (
            "This ran on the emulated NPU: results are real torch_npu semantics, times mean nothing. "
            "Nothing in this chapter has run on real Ascend hardware yet."
        )
    if device.type == "npu":
        return f"This ran on {describe(device)}. Please report it: no result from real Ascend hardware is known yet."
    return (
        f"This ran on a {device.type.upper()}; nothing in this chapter has run on real Ascend hardware yet."
    )


def _present(kind: str) -> bool:
    """Whether torch can use a device of that kind here; torch_npu is imported only where an NPU's driver is."""
    if kind == "npu" and not _load_torch_npu():
        return False
    return kind == "cpu" or bool(torch.get_device_module(kind).is_available())


def _first_present() -> str:
    """The best kind of device that is here."""
    return next(kind for kind in _NAMES if _present(kind))


def _load_torch_npu() -> bool:
    """Whether there is an Ascend driver and a torch_npu, which is then imported (it adds `torch.npu`), or the emulated NPU."""
    if is_emulated(torch.device("npu") if hasattr(torch, "npu") else torch.device("cpu")):
        return True
    has_driver = any(Path("/dev").glob("davinci[0-9]*"))
    if not has_driver or importlib.util.find_spec("torch_npu") is None:
        return False
    importlib.import_module("torch_npu")
    return True


@contextmanager
def _profiled(peak: MemoryPeak) -> Iterator[None]:
    """Fills `peak` from the allocations that torch's profiler saw in the block."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        yield
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    in_use = 0
    for event in sorted(events, key=lambda e: float(e["ts"])):
        in_use += event["args"]["Bytes"]
        peak.nbytes = max(peak.nbytes, in_use)
