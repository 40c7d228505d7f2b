"""Times on a device: a stopwatch for a block, laps between marks."""

from __future__ import annotations

import time
from itertools import pairwise

import torch

from helpers.machine.device import synchronize


class Stopwatch:
    """Seconds that a block took on a device: `with Stopwatch(device) as watch: …; watch.seconds`.

    The clock is monotonic: nothing can set the clock back during the block.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        """Start when the device is idle, and return the stopwatch."""
        synchronize(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop when the device is idle again."""
        synchronize(self.device)
        self.seconds = time.perf_counter() - self._start


class Lap:
    """Seconds between marks on a device: `lap.mark()` after each piece of work, `lap.seconds()` at the end.

    A CPU's marks are readings of a monotonic clock. An accelerator's marks are events in its queue: a mark
    does not wait for the device, and does not count what the host does meanwhile.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._marks: list[torch.Event | float] = []

    def mark(self) -> None:
        """Set a mark: on a CPU now, on an accelerator when all work that was launched so far is done."""
        if self._device.type == "cpu":
            self._marks.append(time.perf_counter())
            return
        event = torch.Event(device=self._device, enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """Return the seconds between neighbouring marks, in order."""
        synchronize(self._device)
        return [_between(first, second) for first, second in pairwise(self._marks)]


def _between(first: torch.Event | float, second: torch.Event | float) -> float:
    """Return the seconds from one mark to the next; events count milliseconds."""
    if isinstance(first, torch.Event) and isinstance(second, torch.Event):
        return float(first.elapsed_time(second)) / 1e3
    return float(second) - float(first)  # type: ignore[arg-type]  # the marks of one lap are of one kind
