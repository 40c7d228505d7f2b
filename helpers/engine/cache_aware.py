"""A policy that serves first what is cached already."""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator

from helpers.engine.policy import CachedTokens, Policy
from helpers.engine.request import RequestState


class CacheAware(Policy):
    """Next is, of the `window` requests that have waited longest, the one of which most tokens are cached.

    Nobody is overtaken more than `patience` times: then it is next. With `patience=0` that is first come, first served. Without a
    bound, prompts that share nothing with others would wait for ever. A decision costs O(window + log n).
    """

    static = False

    def __init__(self, patience: int = 16, window: int = 32):
        """Raises ValueError for a window under 1 or patience under 0."""
        super().__init__()
        if window < 1 or patience < 0:
            raise ValueError(
                f"expected a window of 1 or more and patience of 0 or more, got {window}, {patience}"
            )
        self.patience, self.window = patience, window
        self._cached_tokens: CachedTokens | None = None
        self._oldest: list[tuple[tuple[float, ...], RequestState]] = []  # the window, in order of arrival
        self._passed: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._oldest) + super().__len__()

    def __iter__(self) -> Iterator[RequestState]:
        yield from (state for _, state in self._oldest)
        yield from super().__iter__()

    def attach(self, cached_tokens: CachedTokens | None) -> None:
        """Keep the look-up. Without one, nothing is cached."""
        self._cached_tokens = cached_tokens

    def push(self, state: RequestState) -> None:
        """A request joins the queue, and the window if it is old enough."""
        bisect.insort(self._oldest, (self.key(state), state), key=lambda entry: entry[0])
        if len(self._oldest) > self.window:
            super().push(self._oldest.pop()[1])

    def first(self, now: float) -> RequestState:
        """Return the oldest request that was overtaken `patience` times, or else the one with most in the cache.

        The oldest in the window is not enough: an older request that was preempted comes back in front of it, overtaken
        less often. Of requests with equally much in the cache the oldest is first.
        """
        for _, state in self._oldest:
            if self._passed.get(state.name, 0) >= self.patience:
                return state
        return max((state for _, state in self._oldest), key=self._cached)

    def pop(self, state: RequestState) -> None:
        """All that are older have been overtaken once more."""
        key = self.key(state)
        for other, older in self._oldest:
            if other >= key:
                break
            self._passed[older.name] = self._passed.get(older.name, 0) + 1
        self.remove(state)

    def remove(self, state: RequestState) -> None:
        """A request leaves the window, which the next one enters, or the queue behind it."""
        if state.name in self._tickets:
            super().remove(state)
            return
        at = bisect.bisect_left(self._oldest, self.key(state), key=lambda entry: entry[0])
        del self._oldest[at]
        if self._tickets:
            following = super().first(0.0)
            super().remove(following)
            self._oldest.append((self.key(following), following))

    def leave(self, state: RequestState) -> None:
        """Forgets how often it was overtaken."""
        self._passed.pop(state.name, None)

    def _cached(self, state: RequestState) -> int:
        """Tokens that it would find."""
        return self._cached_tokens(state) if self._cached_tokens is not None else 0
