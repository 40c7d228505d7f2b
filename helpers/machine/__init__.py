"""The device: choosing it, waiting for it, timing on it, its memory in use. Chapters 0 to 2."""

from helpers.machine.device import (
    choose_device,
    describe,
    is_emulated,
    repeats,
    synchronize,
    total_memory,
    where_it_ran,
)
from helpers.machine.profile import MemoryPeak, device_trace, peak_memory
from helpers.machine.stopwatch import Lap, Stopwatch

__all__ = [
    "Lap",
    "MemoryPeak",
    "Stopwatch",
    "choose_device",
    "describe",
    "device_trace",
    "is_emulated",
    "peak_memory",
    "repeats",
    "synchronize",
    "total_memory",
    "where_it_ran",
]
