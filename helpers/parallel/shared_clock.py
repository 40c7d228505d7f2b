"""One clock for all ranks: rank 0 reads it, so that policies that ask the time plan the same pass everywhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from helpers.parallel.collectives import Collectives


class SharedClock:
    """Return rank 0's seconds on each rank, for `ContinuousBatcher(clock=...)`.

    All ranks run the same engine on the same requests. Equal readings then give equal plans, whatever the policy. Two
    ranks that read two clocks may plan two passes, whose sums have two sizes, and gloo ends both processes.
    """

    def __init__(self, collectives: Collectives, clock: Callable[[], float] = time.perf_counter):
        """Read `clock` on the group's first rank."""
        self.collectives, self._clock = collectives, clock

    def __call__(self) -> float:
        """Return the seconds; each call is a broadcast of 8 bytes, which all ranks make."""
        own = self._clock() if self.collectives.rank == 0 else 0.0
        return float(self.collectives.broadcast(torch.tensor([own], dtype=torch.float64)))


class SentClock:
    """Return rank 0's seconds on each rank, for a pipeline: rank 0 sends a reading and does not wait until it is read.

    A broadcast would hold the first stage until the last one asks for the time as well.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, tag: int = 2**20, most: int = 4096):
        """Read `clock` on rank 0; messages have this tag, and at most so many are unread."""
        self._clock, self._tag, self._most = clock, tag, most
        self._kept: deque[tuple[Any, torch.Tensor]] = deque()

    def __call__(self) -> float:
        """Return the seconds; all ranks call as often and in the same order."""
        if not dist.is_initialized():
            return self._clock()
        if dist.get_rank():
            reading = torch.empty(1, dtype=torch.float64)
            dist.recv(reading, 0, tag=self._tag)
            return float(reading)
        now = self._clock()
        reading = torch.tensor([now], dtype=torch.float64)
        for rank in range(1, dist.get_world_size()):
            self._kept.append((dist.isend(reading, rank, tag=self._tag), reading))
        self.flush(self._most)
        return now

    def flush(self, left: int = 0) -> None:
        """Wait until all but `left` messages are read."""
        while len(self._kept) > left:
            self._kept.popleft()[0].wait()
