"""A pretended engine on a virtual clock: what a profiler measures on it is known exactly, on every machine."""

from __future__ import annotations

from collections.abc import Sequence


class PretendEngine:
    """Stand for an engine on a device: take orders and work on them later.

    As on a real device, `start` and `next` return at once. `wait` returns when all that was ordered is done.

    The engine's first prefill and first decode step ever take much longer than later ones.
    """

    def __init__(
        self,
        prefill: float = 0.4,
        decode: float = 0.02,
        setback: float = 3600.0,
        growth: float = 0.0,
        readings: int = 0,
    ):
        """Keep `prefill` and `decode`, the seconds of one pass.

        In every third reading the calendar is set back by `setback`; `readings` have been made already.

        Each decode step of a request takes `growth` (a share of `decode`) longer than the one before.
        """
        self._prefill, self._decode, self._setback, self._growth = prefill, decode, setback, growth
        self._steps = 0
        self._now = self._ready = 1000.0
        self._warm: set[str] = set()
        self._text: list[int] = []
        self._readings = readings

    def start(self, prompt: Sequence[int]) -> int:
        """Forget the last request, order the prefill of `prompt`, and return the first new token."""
        self._text, self._steps = list(prompt), 0
        self._order("prefill", self._prefill * len(prompt) / 100)
        return self._choose()

    def next(self, token: int) -> int:
        """Order a decode step with the last token of the request, and return the next token."""
        self._text.append(token)
        self._order("decode", self._decode * (1 + self._growth * self._steps))
        self._steps += 1
        return self._choose()

    def wait(self) -> None:
        """Wait until everything that was ordered is done."""
        self._now = max(self._now, self._ready)

    def clock(self) -> float:
        """Return seconds, from a clock that only moves forward."""
        return self._now

    def calendar(self) -> float:
        """Return the seconds since some New Year's Day; a calendar may be set back at any time."""
        self._readings += 1
        return self._now - self._setback * (self._readings // 3)

    def __repr__(self) -> str:
        return "a pretended engine"

    def _order(self, kind: str, seconds: float) -> None:
        """Hand work to the device: the host needs a moment, the device begins when it is free."""
        self._now += 1e-6
        if kind not in self._warm:
            self._warm.add(kind)
            seconds *= 20
        self._ready = max(self._now, self._ready) + seconds

    def _choose(self) -> int:
        """Return a token that depends on the whole text."""
        return (sum((i + 1) * token for i, token in enumerate(self._text)) * 31 + 7) % 1009
