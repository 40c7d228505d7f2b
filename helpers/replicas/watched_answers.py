"""The answers to one call, counted for `/metrics` where no engine is near that could count them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from helpers.engine.request import FinishReason, Request, RequestState
from helpers.serving.answers import Answers, Piece
from helpers.serving.errors import ApiError
from helpers.serving.metrics import ServerMetrics


class WatchedAnswers(Answers):
    """Count each piece as it comes: the times are those that a client sees.

    Answers on their way count as running: which of them wait, and how full the caches are, the distant
    engines know alone.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        samples: int,
        cancel: Callable[[Answers], None],
        metrics: ServerMetrics,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Await `samples` answers to each request."""
        super().__init__(len(requests) * samples, clock(), cancel)
        self._metrics, self._clock = metrics, clock
        self._states = {
            place * samples + sample: RequestState(request, self.received)
            for place, request in enumerate(requests)
            for sample in range(samples)
        }
        metrics.gauge("kv_cache_usage_perc", math.nan)

    def deliver(self, piece: Piece | ApiError) -> None:
        """Count a piece, or the error that ends all answers of the call, and pass it on."""
        if isinstance(piece, ApiError):
            self._end_all("failed")
        else:
            self._took(piece)
        super().deliver(piece)

    def close(self) -> None:
        """Cancel what is not answered yet."""
        self._end_all("cancelled")
        super().close()

    def _took(self, piece: Piece) -> None:
        """Count a new token."""
        state = self._states.get(piece.choice)
        if state is None:
            return
        state.token_ids.append(piece.token_id)
        state.token_times.append(self._clock())
        self._metrics.took(state, self.received)
        if piece.finish_reason is not None:
            self._metrics.count("prefix_cache_queries", state.num_prompt)
            self._metrics.count("prefix_cache_hits", piece.cached_tokens)
            self._end(piece.choice, piece.finish_reason)

    def _end(self, choice: int, reason: FinishReason) -> None:
        """Count the end of an answer."""
        state = self._states.pop(choice)
        state.finish_reason, state.ended = reason, self._clock()
        self._metrics.ended(state, self.received)

    def _end_all(self, reason: FinishReason) -> None:
        """Count the end of all answers that have not ended."""
        for choice in list(self._states):
            self._end(choice, reason)
