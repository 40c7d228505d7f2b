"""Stop strings, found across the borders of tokens, and held back from a reader of a stream."""

from __future__ import annotations

from collections.abc import Collection


class StopStrings:
    """Pass a text on, up to the first stop string.

    The stop string that is complete first ends the text; of those complete at one character, the longest.
    So the end does not depend on how the text is split into pieces. Neither a stop string nor a part of one
    is ever passed on, unless the text ends or goes on otherwise.
    """

    def __init__(self, stop: Collection[str]):
        """Begin without text; raise ValueError for an empty stop string."""
        if "" in stop:
            raise ValueError("a stop string needs at least one character")
        self._stop = sorted(stop, key=len, reverse=True)
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text; None while the text goes on."""

    def push(self, piece: str) -> str:
        """Return what may be passed on now that the text goes on with `piece`; nothing after the end."""
        passed = ""
        for character in piece if self.found is None else "":
            self._held += character
            self.found = next((stop for stop in self._stop if self._held.endswith(stop)), None)
            if self.found is not None:
                passed += self._held.removesuffix(self.found)
                self._held = ""
                break
            kept = self._beginning()
            passed += self._held[: len(self._held) - kept]
            self._held = self._held[len(self._held) - kept :]
        return passed

    def finish(self) -> str:
        """Return what was held back: the text ends here, without a stop string."""
        held, self._held = self._held, ""
        return held

    def _beginning(self) -> int:
        """Return the length of the longest end of the held text that is the beginning of a stop string."""
        most = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(most, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0
