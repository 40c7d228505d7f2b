"""A request for text, and the state of a request in an engine."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True)
class Request:
    """Describe what a client asks for. The answer is greedy unless `temperature` is above 0."""

    request_id: Hashable
    prompt_ids: Sequence[int]
    max_tokens: int = 64
    """The largest number of new tokens."""
    stop_ids: Collection[int] = ()
    """Tokens after which the answer ends; the stop token is part of the answer."""
    temperature: float = 0.0
    top_p: float = 1.0
    """Draw from the smallest set of likeliest tokens that has this share of the probability."""
    top_k: int = 0
    """Draw from so many likeliest tokens; 0 means all tokens."""
    seed: int = 0
    """The seed and a new token's number decide what is drawn, whatever else is in the batch."""
    salt: Hashable = None
    """Only requests with the same salt share cached text."""
    priority: int = 0
    """A smaller number is more urgent; used by some policies."""
    client: Hashable = None
    """The client that asks; used by fair policies."""

    def __post_init__(self) -> None:
        """Raise ValueError for a request that no engine could serve."""
        for name in ("request_id", "salt", "client"):
            self._check_hash(name)
        if not isinstance(self.prompt_ids, Sequence) or not _whole(self.prompt_ids):
            raise self._refusal("prompt_ids must be a list of whole numbers", self.prompt_ids)
        if not self.prompt_ids:
            raise ValueError(f"request {self.request_id!r}: the prompt is empty; give at least one token")
        if min(self.prompt_ids) < 0:
            raise self._refusal("token ids must be 0 or more", min(self.prompt_ids))
        if not isinstance(self.stop_ids, Collection) or not _whole(self.stop_ids):
            raise self._refusal("stop_ids must be a list of whole numbers", self.stop_ids)
        if not _whole((self.max_tokens, self.top_k, self.seed)) or self.max_tokens < 1:
            raise self._refusal(
                "max_tokens must be 1 or more, top_k and seed whole numbers",
                (self.max_tokens, self.top_k, self.seed),
            )
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise self._refusal(
                "expected temperature >= 0, 0 < top_p <= 1, top_k >= 0",
                (self.temperature, self.top_p, self.top_k),
            )

    def _check_hash(self, name: str) -> None:
        """Raise ValueError for a value that cannot be looked up in a dictionary."""
        try:
            hash(getattr(self, name))
        except TypeError:
            raise self._refusal(f"{name} must be hashable, such as a string", getattr(self, name)) from None

    def _refusal(self, expected: str, got: object) -> ValueError:
        """Return the error that names what was expected and what was given."""
        return ValueError(f"request {self.request_id!r}: {expected}; got {got!r:.80}")


def _whole(numbers: Collection[int]) -> bool:
    """Return whether all numbers are plain ints."""
    return {*map(type, numbers)} <= {int}


@dataclass(slots=True, eq=False)
class RequestState:
    """Hold the state of a request in an engine. Times are in seconds of the engine's clock."""

    request: Request
    arrived: float
    token_ids: list[int] = field(default_factory=list)
    """New tokens so far."""
    computed: int = 0
    """Tokens of prompt and answer that the cache holds."""
    finish_reason: FinishReason | None = None
    error: str = ""
    """The error of a failed request, or an empty string."""
    first_scheduled: float | None = None
    token_times: list[float] = field(default_factory=list)
    """When each new token came."""
    preemptions: int = 0
    cached_tokens: int = 0
    """Tokens that were cached when the request was last admitted."""
    tokens_computed: int = 0
    """Tokens of the request that went through the model; recomputed tokens count again."""
    order: int = 0
    """The request's number in its engine, in order of arrival."""
    ended: float | None = None
    """When the request ended, for any reason."""
    name: Hashable = field(init=False)
    """The request's id."""
    num_prompt: int = field(init=False)
    """Tokens of the prompt."""

    def __post_init__(self) -> None:
        self.name, self.num_prompt = self.request.request_id, len(self.request.prompt_ids)

    @property
    def text(self) -> list[int]:
        """The tokens of the prompt and of the answer so far."""
        return [*self.request.prompt_ids, *self.token_ids]

    def tokens(self, start: int, stop: int) -> Sequence[int]:
        """Return `text[start:stop]`, without a copy of the whole text."""
        before = self.num_prompt
        if start >= before:
            return self.token_ids[start - before : stop - before]
        prompt = self.request.prompt_ids
        return prompt[start:stop] if stop <= before else [*prompt[start:], *self.token_ids[: stop - before]]

    @property
    def num_tokens(self) -> int:
        """Length of `text`."""
        return self.num_prompt + len(self.token_ids)

    @property
    def remaining(self) -> int:
        """Tokens that must still be computed before the next one can be chosen."""
        return self.num_prompt + len(self.token_ids) - self.computed

    @property
    def ttft(self) -> float:
        """Time to first token, in seconds. Raises ValueError before the first token."""
        if not self.token_times:
            raise ValueError(f"request {self.name!r} has no token yet")
        return self.token_times[0] - self.arrived

    @property
    def tpot(self) -> float:
        """Mean time between new tokens, in seconds; 0 for fewer than two tokens."""
        steps = len(self.token_times) - 1
        return (self.token_times[-1] - self.token_times[0]) / steps if steps > 0 else 0.0
