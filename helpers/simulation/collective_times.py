"""Seconds of messages among devices, by latency and bandwidth (the alpha-beta model; Thakur et al., 2005).

Every device sends to all others at once, and receives from them meanwhile. Its messages share its bandwidth. So a
step has one latency, whatever the number of devices. That is the algorithm "Mesh" of HCCL (cann/hccl, docs), for
devices of which each is joined to each other one. A ring sends as many bytes, and has more latencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.simulation.pass_time import non_negative


@dataclass(frozen=True)
class Wire:
    """A link's two numbers: seconds before the first byte, and bytes per second in one direction."""

    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        """Raise ValueError for a latency below 0 or a bandwidth that is not above 0."""
        if not (self.latency >= 0 and self.bandwidth > 0):
            raise ValueError(f"latency is 0 or more, bandwidth above 0; got {self.latency}, {self.bandwidth}")

    @classmethod
    def fitted(cls, nbytes: Sequence[float], seconds: Sequence[float]) -> Wire:
        """Return the wire whose `send` comes closest to measured messages, by least squares of the relative error.

        On two devices an all-reduce in one step takes as long as a message. Raises ValueError for fewer than two sizes,
        for times that are not above 0, and for times that do not grow with the bytes.
        """
        if len(set(nbytes)) < 2 or len(nbytes) != len(seconds) or not min(seconds) > 0:
            raise ValueError(
                f"expected two sizes or more, each with its time above 0, got {nbytes}, {seconds}"
            )
        times = np.array(seconds, float)
        rows = np.array([[1.0, size] for size in nbytes]) / times[:, None]
        latency, slope = non_negative(rows, np.ones(len(times)))
        if not slope > 0:
            raise ValueError(f"the times do not grow with the bytes, so that no bandwidth follows: {seconds}")
        return cls(latency, 1 / slope)

    def send(self, nbytes: float) -> float:
        """Return the seconds of one message."""
        return self.latency + nbytes / self.bandwidth

    def all_gather(self, nbytes: float, world: int) -> float:
        """Return the seconds until each of `world` devices has what every device had, `nbytes` each."""
        others = _several(world) - 1
        return self.send(others * nbytes) if others else 0.0

    def reduce_scatter(self, nbytes: float, world: int) -> float:
        """Return the seconds until each device has its share of the sum of `nbytes` of every device."""
        others = _several(world) - 1
        return self.send(others * nbytes / world) if others else 0.0

    def all_reduce(self, nbytes: float, world: int) -> float:
        """Return the seconds until each device has the sum of `nbytes` of every device.

        Two steps: each device sums its share for all others, then each hands out its sums. Small messages need one
        step: all data go to all others. The faster of the two is counted, as libraries choose.
        """
        in_two = self.reduce_scatter(nbytes, world) + self.all_gather(nbytes / world, world)
        return min(in_two, self.all_gather(nbytes, world))

    def all_to_all(self, nbytes: float, world: int) -> float:
        """Return the seconds until every device has sent `nbytes`, an equal share to each, its own share included.

        All messages start at once and share the link.
        """
        others = _several(world) - 1
        return self.send(nbytes * others / world) if others else 0.0


def _several(world: int) -> int:
    """Return the number of devices; raise ValueError for less than one."""
    if world < 1:
        raise ValueError(f"a group has 1 device or more, got {world}")
    return world
