"""A request for text, and the state of a request in an engine."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from helpers.model.text.answer_text import AnswerText

FinishReason = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True)
class Request:
    """Describe what a client asks for. The answer is greedy unless `temperature` is above 0."""

    request_id: Hashable
    prompt_ids: Sequence[int]
    max_tokens: int = 64
    """The largest number of new tokens."""
    stop_ids: Collection[int] = ()
    """Tokens after which the answer ends; the stop token is part of the answer, not of the answer's text."""
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
    stop: Sequence[str] = ()
    """Texts that end the answer; the answer's text ends before them. An engine needs a tokenizer for them."""
    ignore_eos: bool = False
    """Whether the answer goes on after a token of `stop_ids`, as measurements want."""
    min_tokens: int = 0
    """No token of `stop_ids` is chosen, and no stop text is looked for, among so many first tokens."""
    logprobs: int | None = None
    """Report each new token's log-probability, and those of so many likeliest tokens; None reports none."""
    answered: Sequence[int] = ()
    """The answer's first tokens, which are known: the answer goes on behind them as if computed here.

    They count towards `max_tokens` and `min_tokens`.
    """
    at_context_end: Literal["refuse", "cut"] = "refuse"
    """What an engine does with a request whose longest answer does not fit: refuse it, or cut the answer."""

    def __post_init__(self) -> None:
        """Raise ValueError for a request that no engine could serve."""
        for name in ("request_id", "salt", "client"):
            self._check_hash(name)
        for expected, got in self._problems():
            raise self._refusal(expected, got)

    def cut_to(self, room: int) -> Request:
        """Return the request with the longest answer that `room` tokens of context allow, if it may be cut.

        The last token of an answer needs no room. Returns the request itself where nothing is to be cut, or
        where even one new token finds no room.
        """
        longest = room + 1 - len(self.prompt_ids)
        if self.at_context_end == "refuse" or not len(self.answered) < longest < self.max_tokens:
            return self
        return replace(self, max_tokens=longest, min_tokens=min(self.min_tokens, longest))

    def may_stop(self, place: int) -> bool:
        """Return whether a token of `stop_ids` ends the answer as new token number `place`, from 0."""
        return place >= self.min_tokens and not self.ignore_eos

    def _problems(self) -> Iterator[tuple[str, object]]:
        """Yield what is expected and what was given instead, for each field that no engine could serve."""
        yield from self._token_problems()
        sizes = (self.max_tokens, self.top_k, self.seed)
        if not _whole(sizes) or self.max_tokens < 1:
            yield "max_tokens must be 1 or more, top_k and seed whole numbers", sizes
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1 or self.top_k < 0:
            given = (self.temperature, self.top_p, self.top_k)
            yield "expected temperature >= 0, 0 < top_p <= 1, top_k >= 0", given
        if not _whole((self.min_tokens,)) or not 0 <= self.min_tokens <= self.max_tokens:
            yield (
                f"min_tokens must be a whole number from 0 to max_tokens ({self.max_tokens})",
                self.min_tokens,
            )
        if self.logprobs is not None and (not _whole((self.logprobs,)) or self.logprobs < 0):
            yield "logprobs must be None, or 0 or more", self.logprobs
        if {type(self.ignore_eos)} != {bool}:
            yield "ignore_eos must be True or False", self.ignore_eos
        if self.at_context_end not in ("refuse", "cut"):
            yield 'at_context_end must be "refuse" or "cut"', self.at_context_end
        yield from self._end_problems()

    def _token_problems(self) -> Iterator[tuple[str, object]]:
        """Yield what is wrong with prompt, answered tokens and stop tokens."""
        for name, tokens in (("prompt_ids", self.prompt_ids), ("answered", self.answered)):
            if not isinstance(tokens, Sequence) or not _whole(tokens):
                yield f"{name} must be a list of whole numbers", tokens
            if min(tokens, default=0) < 0:
                yield "token ids must be 0 or more", min(tokens)
        if not self.prompt_ids:
            yield "the prompt is empty; give at least one token", self.prompt_ids
        if not isinstance(self.stop_ids, Collection) or not _whole(self.stop_ids):
            yield "stop_ids must be a list of whole numbers", self.stop_ids

    def _end_problems(self) -> Iterator[tuple[str, object]]:
        """Yield what is wrong with stop texts, and whether the answer has ended already."""
        is_list = isinstance(self.stop, Sequence) and not isinstance(self.stop, str)
        if not is_list or not all(isinstance(text, str) and text for text in self.stop):
            yield "stop must be a list of texts of one character or more", self.stop
        if len(self.answered) >= self.max_tokens:
            yield f"answered must hold fewer tokens than max_tokens ({self.max_tokens})", len(self.answered)
        for place, token in enumerate(self.answered):
            if token in self.stop_ids and self.may_stop(place):
                yield "the answer has ended already, with a token of stop_ids", token

    def _check_hash(self, name: str) -> None:
        """Raise ValueError for a value that cannot be looked up in a dictionary."""
        try:
            hash(getattr(self, name))
        except TypeError:
            raise self._refusal(f"{name} must be hashable, such as a string", getattr(self, name)) from None

    def _refusal(self, expected: str, got: object) -> ValueError:
        """Return the error that names what was expected and what was given."""
        return ValueError(f"request {self.request_id!r:.40}: {expected}; got {got!r:.80}")


def _whole(numbers: Collection[int]) -> bool:
    """Return whether all numbers are plain ints."""
    return {*map(type, numbers)} <= {int}


class TokenLogprobs(NamedTuple):
    """Hold a new token's log-probability under the model, and the likeliest tokens with theirs."""

    token_id: int
    logprob: float
    """Natural logarithm of the probability before temperature, `top_k` and `top_p`."""
    top: tuple[tuple[int, float], ...]
    """`(token, log-probability)` of as many likeliest tokens as the request asked for, likeliest first."""


@dataclass(slots=True, eq=False)
class RequestState:
    """Hold the state of a request in an engine. Times are in seconds of the engine's clock."""

    request: Request
    arrived: float
    token_ids: list[int] = field(default_factory=list)
    """Tokens of the answer so far, those that the request brought (`answered`) first."""
    computed: int = 0
    """Tokens of prompt and answer that the cache holds."""
    finish_reason: FinishReason | None = None
    error: str = ""
    """The error of a failed request, or an empty string."""
    first_scheduled: float | None = None
    token_times: list[float] = field(default_factory=list)
    """When each token came that was computed here."""
    preemptions: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were cached when the request was first admitted, so computed by other requests."""
    tokens_computed: int = 0
    """Tokens of the request that went through the model; recomputed tokens count again."""
    order: int = 0
    """The request's number in its engine, in order of arrival."""
    ended: float | None = None
    """When the request ended, for any reason."""
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    """One entry for each token that was computed here, if the request asks for them."""
    answer: AnswerText | None = None
    """The answer's text so far, where the engine has a tokenizer."""
    name: Hashable = field(init=False)
    """The request's id."""
    num_prompt: int = field(init=False)
    """Tokens of the prompt."""

    def __post_init__(self) -> None:
        self.name, self.num_prompt = self.request.request_id, len(self.request.prompt_ids)
        if not self.token_ids:
            self.token_ids = list(self.request.answered)

    def take(self, token: int, now: float) -> FinishReason | None:
        """Add a token to the answer; return why the answer ends with this token, or None if it goes on.

        A stop token has no text.
        """
        request, place = self.request, len(self.token_ids)
        stops = token in request.stop_ids and request.may_stop(place)
        if not stops and self.answer is not None:
            stops = self.answer.push(token)
        self.token_ids.append(token)
        self.token_times.append(now)
        if stops:
            return "stop"
        return "length" if place + 1 == request.max_tokens else None

    def end(self, reason: FinishReason, error: str, now: float) -> None:
        """Note why and when the request ended, and complete the answer's text."""
        if self.answer is not None and self.answer.finish() and reason == "length":
            reason = "stop"  # the last characters completed a stop text when no token could change them
        self.finish_reason, self.error, self.ended = reason, error, now

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
