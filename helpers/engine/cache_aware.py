"""A policy that admits first the requests whose prompts are cached."""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator

from helpers.engine.policy import CachedTokens, Policy
from helpers.engine.request import RequestState


class CacheAware(Policy):
    """Admit, of the `window` requests that have waited longest, the request with the most cached tokens.

    A request that was overtaken `patience` times is next. So `patience=0` is first come, first served.
    Without this bound, a prompt that shares nothing with others would wait for ever. A decision costs
    O(window + log n), with n requests in the queue.
    """

    static = False

    def __init__(self, patience: int = 16, window: int = 32):
        """Begin with an empty queue. Raises ValueError for a window under 1 or patience under 0."""
        super().__init__()
        if window < 1 or patience < 0:
            raise ValueError(
                f"expected a window of 1 or more and patience of 0 or more, got {window}, {patience}"
            )
        self.patience, self.window = patience, window
        self._cached_tokens: CachedTokens | None = None
        self._oldest: list[tuple[tuple[float, ...], RequestState]] = []  # the window, in order of arrival
        self._passed: dict[Hashable, int] = {}  # how often each waiting request was overtaken

    def __len__(self) -> int:
        return len(self._oldest) + super().__len__()

    def __iter__(self) -> Iterator[RequestState]:
        yield from (state for _, state in self._oldest)
        yield from super().__iter__()

    def attach(self, cached_tokens: CachedTokens | None) -> None:
        """Keep the look-up. Without one, nothing is cached."""
        self._cached_tokens = cached_tokens

    def push(self, state: RequestState) -> None:
        """Put a request into the queue, and into the window if the request is old enough."""
        bisect.insort(self._oldest, (self.key(state), state), key=lambda entry: entry[0])
        if len(self._oldest) > self.window:
            super().push(self._oldest.pop()[1])

    def first(self, now: float) -> RequestState:
        """Return the oldest request that was overtaken `patience` times, or the one with most cached tokens.

        To ask only the oldest request in the window is not enough. An older request that was preempted comes
        back in front of that request, and was overtaken less often. Of requests with equally many cached
        tokens the oldest is first.
        """
        for _, state in self._oldest:
            if self._passed.get(state.name, 0) >= self.patience:
                return state
        return max((state for _, state in self._oldest), key=self._cached)

    def pop(self, state: RequestState) -> None:
        """Take the request out, and note that all older requests were overtaken once more."""
        key = self.key(state)
        for other, older in self._oldest:
            if other >= key:
                break
            self._passed[older.name] = self._passed.get(older.name, 0) + 1
        self.remove(state)

    def remove(self, state: RequestState) -> None:
        """Take a request out of the window, or out of the queue behind the window.

        The first request of that queue fills a gap in the window.
        """
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
        """Forget how often the request was overtaken."""
        self._passed.pop(state.name, None)

    def _cached(self, state: RequestState) -> int:
        """Tokens that it would find."""
        return self._cached_tokens(state) if self._cached_tokens is not None else 0
