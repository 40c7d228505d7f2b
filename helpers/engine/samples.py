"""Samples of one prompt: they wait until one of them, the *first*, has computed it, and go on from there."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from helpers.engine.request import RequestState


class Samples:
    """Hold the samples that wait for another sample's prompt.

    A held sample is neither in the queue nor running, and has no page and no seat.
    """

    def __init__(self) -> None:
        """Begin without samples."""
        self._behind: dict[Hashable, list[RequestState]] = {}

    def __len__(self) -> int:
        return len(self._behind)

    def hold(self, first: RequestState, others: Sequence[RequestState]) -> None:
        """Hold the other samples until the first sample's prompt is computed."""
        if others:
            self._behind[first.name] = list(others)

    def release(self, first: RequestState) -> list[RequestState]:
        """Return the samples that waited for this one, and hold them no longer."""
        return self._behind.pop(first.name, [])

    def withdraw(self, state: RequestState) -> bool:
        """Take a sample out; return whether the sample was held here."""
        for others in self._behind.values():
            if any(other is state for other in others):
                others[:] = [other for other in others if other is not state]
                return True
        return False
