"""Clocks: a virtual clock that calls move on, and the wall clock.

Both can be set back for a moment, to note afterwards when a request came.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class VirtualClock:
    """Count seconds that pass only when a method moves the clock on. A call of the clock gives the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds. Raises ValueError for a step back."""
        if not seconds >= 0:
            raise ValueError(f"time goes forward, got {seconds} seconds")
        self.now += seconds

    def wait_until(self, moment: float) -> None:
        """Move on to a moment; do nothing for a moment that is past."""
        self.now = max(self.now, moment)

    @contextmanager
    def back_at(self, moment: float) -> Iterator[None]:
        """Set the time to `moment` within the block, to note afterwards when a request came."""
        present, self.now = self.now, moment
        try:
            yield
        finally:
            self.now = present


class WallClock(VirtualClock):
    """Count real seconds since the clock was made. To move this clock on is to wait."""

    def __init__(self) -> None:
        super().__init__()
        self._begin = time.perf_counter()
        self._back: float | None = None

    def __call__(self) -> float:
        """Return the time in seconds."""
        self.now = time.perf_counter() - self._begin
        return self.now if self._back is None else self._back

    def advance(self, seconds: float) -> None:
        """Sleep for so many seconds. Raises ValueError for a step back."""
        if not seconds >= 0:
            raise ValueError(f"time goes forward, got {seconds} seconds")
        time.sleep(seconds)

    def wait_until(self, moment: float) -> None:
        """Sleep until a moment; do nothing for a moment that is past."""
        time.sleep(max(0.0, moment - self()))

    @contextmanager
    def back_at(self, moment: float) -> Iterator[None]:
        """Set the time to `moment` within the block."""
        self._back = moment
        try:
            yield
        finally:
            self._back = None
