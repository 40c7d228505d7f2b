"""Clocks: one that somebody moves, and the wall's. Both can be set back for a moment, to note afterwards when something came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class VirtualClock:
    """Seconds that pass when somebody says so. Called, it gives the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves on; ValueError for a step back."""
        if not seconds >= 0:
            raise ValueError(f"time goes forward, got {seconds} seconds")
        self.now += seconds

    def wait_until(self, moment: float) -> None:
        """Moves on to a moment; nothing happens when that is past."""
        self.now = max(self.now, moment)

    @contextmanager
    def back_at(self, moment: float) -> Iterator[None]:
        """Within the block the time is `moment`: for noting afterwards when something came."""
        present, self.now = self.now, moment
        try:
            yield
        finally:
            self.now = present


class WallClock(VirtualClock):
    """Real seconds since it was made. To move it on is to wait."""

    def __init__(self) -> None:
        super().__init__()
        self._begin = time.perf_counter()
        self._back: float | None = None

    def __call__(self) -> float:
        """The time."""
        self.now = time.perf_counter() - self._begin
        return self.now if self._back is None else self._back

    def advance(self, seconds: float) -> None:
        """Sleeps; ValueError for a step back."""
        if not seconds >= 0:
            raise ValueError(f"time goes forward, got {seconds} seconds")
        time.sleep(seconds)

    def wait_until(self, moment: float) -> None:
        """Sleeps until a moment; nothing happens when that is past."""
        time.sleep(max(0.0, moment - self()))

    @contextmanager
    def back_at(self, moment: float) -> Iterator[None]:
        """Within the block the time is `moment`."""
        self._back = moment
        try:
            yield
        finally:
            self._back = None
