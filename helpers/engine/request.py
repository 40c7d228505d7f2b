"""A request for text, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True)
class Request:
    """What a client asks for. Greedy unless `temperature` is above 0."""

    request_id: Hashable
    prompt_ids: Sequence[int]
    max_tokens: int = 64
    """New tokens at most."""
    stop_ids: Collection[int] = ()
    """Tokens after which the answer ends; the one that came is part of it."""
    temperature: float = 0.0
    top_p: float = 1.0
    """The smallest set of likeliest tokens that has this share of the probability is drawn from."""
    top_k: int = 0
    """So many likeliest tokens are drawn from; 0 means all."""
    seed: int = 0
    """Together with a token's place it decides what is drawn, whatever else is in the batch."""
    salt: Hashable = None
    """Only requests of one salt share cached text."""
    priority: int = 0
    """Smaller is more urgent, for policies that ask."""
    client: Hashable = None
    """Who asks, for policies that share fairly."""

    def __post_init__(self) -> None:
        """Raises ValueError for what no engine could do."""
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
        """Raises ValueError for what cannot be looked up."""
        try:
            hash(getattr(self, name))
        except TypeError:
            raise self._refusal(f"{name} must be hashable, such as a string", getattr(self, name)) from None

    def _refusal(self, expected: str, got: object) -> ValueError:
        """The error that says so."""
        return ValueError(f"request {self.request_id!r}: {expected}; got {got!r:.80}")


def _whole(numbers: Collection[int]) -> bool:
    """Whether all are plain ints."""
    return {*map(type, numbers)} <= {int}


@dataclass(slots=True, eq=False)
class RequestState:
    """A request on its way. Times are in seconds of the engine's clock."""

    request: Request
    arrived: float
    token_ids: list[int] = field(default_factory=list)
    """New tokens so far."""
    computed: int = 0
    """Tokens of prompt and answer that the cache holds."""
    finish_reason: FinishReason | None = None
    error: str = ""
    """What went wrong, when it failed."""
    first_scheduled: float | None = None
    token_times: list[float] = field(default_factory=list)
    """When each new token came."""
    preemptions: int = 0
    cached_tokens: int = 0
    """Tokens that it found cached when it was last admitted."""
    tokens_computed: int = 0
    """Tokens of it that went through the model, recomputed ones counted again."""
    order: int = 0
    """Its number among its engine's requests, in order of arrival."""
    ended: float | None = None
    """When it was done, for whatever reason."""
    name: Hashable = field(init=False)
    """The request's id."""
    num_prompt: int = field(init=False)
    """Tokens of the prompt."""

    def __post_init__(self) -> None:
        self.name, self.num_prompt = self.request.request_id, len(self.request.prompt_ids)

    @property
    def text(self) -> list[int]:
        """Prompt and answer so far."""
        return [*self.request.prompt_ids, *self.token_ids]

    def tokens(self, start: int, stop: int) -> Sequence[int]:
        """`text[start:stop]`, without a copy of all of it."""
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
        """Time to first token; ValueError before there is one."""
        if not self.token_times:
            raise ValueError(f"request {self.name!r} has no token yet")
        return self.token_times[0] - self.arrived

    @property
    def tpot(self) -> float:
        """Mean time between its tokens; 0 when there are fewer than two."""
        steps = len(self.token_times) - 1
        return (self.token_times[-1] - self.token_times[0]) / steps if steps > 0 else 0.0
