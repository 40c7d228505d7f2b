"""What became of a request, as far as its client can tell: arrival, token times, reason for the end."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from operator import sub

from helpers.engine.request import FinishReason, RequestState
from helpers.traffic.trace import Arrival


@dataclass(frozen=True, slots=True)
class Outcome:
    """Record one request that is done. Moments are seconds of the engine's clock."""

    name: Hashable
    client: Hashable
    priority: int
    prompt_tokens: int
    new_tokens: int
    """Tokens of the answer that were computed here."""
    arrived: float
    ended: float
    reason: FinishReason
    admitted: float | None = None
    """When the request was first part of a pass; None: never."""
    first_token: float | None = None
    last_token: float | None = None
    largest_gap: float = 0.0
    """The longest time between two tokens of the request."""
    preemptions: int = 0
    cached_tokens: int = 0
    """Prompt tokens that other requests had computed, found when the request was first admitted."""
    computed: int = 0
    """Tokens of the request that went through the model; recomputed tokens count again."""

    @classmethod
    def of(cls, state: RequestState) -> Outcome:
        """Return the outcome of a request. Raises ValueError for a request that is not done."""
        if state.ended is None or state.finish_reason is None:
            raise ValueError(f"request {state.name!r} is not done yet")
        times, request = state.token_times, state.request
        return cls(
            state.name,
            request.client,
            request.priority,
            len(request.prompt_ids),
            len(times),
            state.arrived,
            state.ended,
            state.finish_reason,
            state.first_scheduled,
            times[0] if times else None,
            times[-1] if times else None,
            max(map(sub, times[1:], times), default=0.0),
            state.preemptions,
            state.cached_tokens,
            state.tokens_computed,
        )

    @classmethod
    def of_nothing(cls, name: Hashable, arrival: Arrival) -> Outcome:
        """Return the outcome of a request that asks for no token, and is done when it comes."""
        at = arrival.at
        return cls(name, arrival.client, arrival.priority, arrival.prompt_tokens, 0, at, at, "length", at)

    @property
    def wait(self) -> float:
        """Return the seconds until the request was first part of a pass; if it never was, until its end."""
        return (self.ended if self.admitted is None else self.admitted) - self.arrived

    @property
    def ttft(self) -> float | None:
        """Return the time to first token in seconds; None without a token."""
        return None if self.first_token is None else self.first_token - self.arrived

    @property
    def tpot(self) -> float | None:
        """Return the mean time between tokens in seconds; None for fewer than two tokens."""
        if self.first_token is None or self.last_token is None or self.new_tokens < 2:
            return None
        return (self.last_token - self.first_token) / (self.new_tokens - 1)

    @property
    def latency(self) -> float:
        """Return the seconds from arrival to end, "end to end"."""
        return self.ended - self.arrived

    @property
    def served(self) -> bool:
        """Return whether the request came to its own end: its last token, or a stop token."""
        return self.reason in ("length", "stop")

    def tokens_by(self, moment: float) -> float:
        """Return the new tokens at a moment, taken as evenly spaced between the first and the last token."""
        if self.first_token is None or self.last_token is None or moment < self.first_token:
            return 0.0
        if moment >= self.last_token:
            return float(self.new_tokens)
        passed = (moment - self.first_token) / (self.last_token - self.first_token)
        return 1 + (self.new_tokens - 1) * passed
