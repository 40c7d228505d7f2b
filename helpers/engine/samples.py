"""Samples of one prompt: they wait until one of them, the *first*, has computed it, and go on from there."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from helpers.engine.request import RequestState


class Samples:
    """Who waits for whose prompt. Neither in the queue nor running, they hold no page and no seat."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._behind: dict[Hashable, list[RequestState]] = {}

    def __len__(self) -> int:
        return len(self._behind)

    def hold(self, first: RequestState, others: Sequence[RequestState]) -> None:
        """The others wait until the first one's prompt is computed."""
        if others:
            self._behind[first.name] = list(others)

    def release(self, first: RequestState) -> list[RequestState]:
        """Those who waited for this one, and do so no longer."""
        return self._behind.pop(first.name, [])

    def withdraw(self, state: RequestState) -> bool:
        """Takes one out who waits here; whether there was such a one."""
        for others in self._behind.values():
            if any(other is state for other in others):
                others[:] = [other for other in others if other is not state]
                return True
        return False
