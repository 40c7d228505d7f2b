"""What launches cost: the time of an empty call, measured; a step's time from calls and bytes, predicted.

On a CPU a call computes before it returns, so times add up. An accelerator computes while the host launches what
comes next, so the slower of the two decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from helpers.machine.device import synchronize
from helpers.machine.stopwatch import Stopwatch


class Launched(NamedTuple):
    """One kernel on a time line, in seconds: when the host launches it, and when the device runs it."""

    launched: tuple[float, float]
    ran: tuple[float, float]


def time_line(kernels: Sequence[float], launch: float, *, graph: bool = False) -> list[Launched]:
    """Return when each kernel is launched and runs, for kernels of so many seconds and launches of `launch` seconds.

    The host launches without waiting; a kernel runs when it is launched and the one before is done. With
    `graph`, one launch starts them all. Raises ValueError for negative times.
    """
    if launch < 0 or any(seconds < 0 for seconds in kernels):
        raise ValueError(f"times are 0 or more seconds, got {launch} and {list(kernels)}")
    found, host, free = list[Launched](), 0.0, 0.0
    for number, seconds in enumerate(kernels):
        begun, host = host, host + (launch if number == 0 or not graph else 0.0)
        start = max(host, free)
        free = start + seconds
        found.append(Launched((begun, host), (start, free)))
    return found


def step_seconds(
    calls: int, launch: float, nbytes: float, bandwidth: float, *, overlapped: bool = False
) -> float:
    """Return the predicted seconds of a step: calls x seconds of a launch, and bytes / bandwidth (bytes/s).

    The two are added, as on a CPU, or with `overlapped` the larger one is taken, as on an accelerator. Raises
    ValueError for a negative number or no bandwidth.
    """
    if min(calls, launch, nbytes) < 0 or bandwidth <= 0:
        raise ValueError(
            f"expected counts of 0 or more and a bandwidth, got {calls}, {launch}, {nbytes}, {bandwidth}"
        )
    host, device = calls * launch, nbytes / bandwidth
    return max(host, device) if overlapped else host + device


def call_seconds(device: torch.device, repeats: int = 2000) -> float:
    """Return the seconds that one operator call takes with next to no work: the least of five runs.

    The operator adds to a tensor of one element, in place, so that no memory is asked for.
    """
    one, times = torch.zeros(1, device=device), []
    with torch.inference_mode():
        for _ in range(5):
            synchronize(device)
            with Stopwatch(device) as watch:
                for _ in range(repeats):
                    one.add_(1.0)
            times.append(watch.seconds / repeats)
    return min(times)
