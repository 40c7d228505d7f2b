"""What a block of code did on a device: a trace of its operators, its peak of tensor memory."""

from __future__ import annotations

import importlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from helpers.machine.device import synchronize


@contextmanager
def device_trace(device: torch.device, folder: Path) -> Iterator[None]:
    """Write a profile of the block into `folder`, which is made where it is missing.

    On an NPU torch_npu's profiler writes its own files. On other devices torch's profiler writes
    `trace.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == "npu":
        with importlib.import_module("helpers.machine.npu_profiler").npu_trace(folder):
            yield
        return
    with torch.profiler.profile() as profiler:
        yield
    profiler.export_chrome_trace(str(folder / "trace.json"))


@dataclass
class MemoryPeak:
    """The most tensor memory that a block held at once, in bytes above what was in use before the block."""

    nbytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[MemoryPeak]:
    """Measure a block's peak of tensor memory: `with peak_memory(device) as peak: …; peak.nbytes`.

    An accelerator's allocator counts its peak itself. On a CPU, torch's profiler records every allocation and
    release, which slows the block down. The profiler sees scratch memory inside operators, but not the
    buffers that libraries allocate themselves.
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


@contextmanager
def _profiled(peak: MemoryPeak) -> Iterator[None]:
    """Fill `peak` from the allocations that torch's profiler saw in the block."""
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
