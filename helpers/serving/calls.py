"""From a body to the engine's requests, within the server's limits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.engine.request import Request
from helpers.serving.bodies import Body, ChatBody, CompletionBody
from helpers.serving.errors import BadRequest, UnknownModel


@dataclass(frozen=True)
class Limits:
    """Bound what one call may ask for."""

    body_bytes: int = 2**20
    body_seconds: float = 30.0
    """The time within which a body must have come."""
    answers: int = 16
    """Prompts times `n`."""
    logprobs: int = 20
    stops: int = 4
    stop_characters: int = 256
    """Characters of one stop text."""


@dataclass(frozen=True)
class Serves:
    """Say what a server serves: the model's name and what bounds a request."""

    model: str
    room: int
    """The most tokens that a request's pages and positions hold, without the answer's last token."""
    vocab_size: int
    stop_ids: tuple[int, ...] = ()
    priorities: bool = False
    """Whether the engine's policy heeds priorities."""
    limits: Limits = Limits()

    def check_model(self, name: str | None) -> None:
        """Raise UnknownModel for another model's name; no name means this model."""
        if name is not None and name != self.model:
            raise UnknownModel(f"the model {name[:80]!r} is not served here, {self.model!r} is", "model")

    def requests(self, name: str, body: CompletionBody | ChatBody, prompts: list[list[int]]) -> list[Request]:
        """Return a request `(name, i)` for each prompt. Raises BadRequest, with the parameter's name."""
        self._check_options(body, len(prompts))
        seed = secrets.randbits(31) if body.seed is None else body.seed
        longest = self._longest_answer(body, prompts)
        if body.min_tokens > min(longest):
            raise BadRequest(f"min_tokens must be at most max_tokens ({min(longest)})", "min_tokens")
        return [
            Request(
                (name, place), prompt, max_tokens, self.stop_ids, body.temperature, body.top_p,
                max(body.top_k, 0), seed + place * body.n, body.cache_salt, body.priority, body.user,
                stops_of(body), body.ignore_eos, body.min_tokens, num_logprobs(body),
            )
            for place, (prompt, max_tokens) in enumerate(zip(prompts, longest, strict=True))
        ]  # fmt: skip

    def _check_options(self, body: CompletionBody | ChatBody, num_prompts: int) -> None:
        """Raise BadRequest for options that exceed a limit, contradict each other or would be ignored."""
        limits, stops, logprobs = self.limits, stops_of(body), num_logprobs(body)
        if body.n * num_prompts > limits.answers:
            raise BadRequest(f"n times the number of prompts must be at most {limits.answers}", "n")
        if logprobs is not None and logprobs > limits.logprobs:
            name = "top_logprobs" if isinstance(body, ChatBody) else "logprobs"
            raise BadRequest(f"{name} must be at most {limits.logprobs}", name)
        if len(stops) > limits.stops or any(not 1 <= len(text) <= limits.stop_characters for text in stops):
            texts = f"{limits.stops} texts of 1 to {limits.stop_characters} characters"
            raise BadRequest(f"stop must be at most {texts}", "stop")
        if body.priority and not self.priorities:
            raise BadRequest("priority needs a server with --policy priority", "priority")
        if body.stream_options is not None and not body.stream:
            raise BadRequest("stream_options needs stream", "stream_options")
        if isinstance(body, ChatBody) and body.top_logprobs is not None and not body.logprobs:
            raise BadRequest("top_logprobs needs logprobs", "top_logprobs")
        if isinstance(body, CompletionBody) and body.echo and body.logprobs is not None:
            raise BadRequest("log-probabilities of a prompt (echo with logprobs) are not supported", "echo")

    def _longest_answer(self, body: CompletionBody | ChatBody, prompts: Sequence[Sequence[int]]) -> list[int]:
        """Return each answer's largest number of tokens. Raises BadRequest for what cannot fit.

        Without a number, completions have 16 new tokens, and chats what the context allows, as at OpenAI.
        """
        name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        given = {size for size in (body.max_tokens, body.max_completion_tokens) if size is not None}
        if len(given) > 1:
            raise BadRequest("max_tokens and max_completion_tokens say two different things", name)
        wanted = next(iter(given), None)
        prompt_name = "messages" if isinstance(body, ChatBody) else "prompt"
        longest = []
        for prompt in prompts:
            self._check_prompt(prompt, prompt_name)
            room = self.room + 1 - len(prompt)
            if wanted is not None and wanted > room:
                raise BadRequest(
                    f"{len(prompt)} prompt tokens and {wanted} new ones do not fit into {self.room + 1}",
                    name,
                    "context_length_exceeded",
                )
            longest.append(wanted or (room if isinstance(body, ChatBody) else min(16, room)))
        return longest

    def _check_prompt(self, prompt: Sequence[int], name: str) -> None:
        """Raise BadRequest for a prompt that is empty, too long, or not of this vocabulary."""
        if not prompt:
            raise BadRequest("the prompt is empty; give at least one token", name)
        if len(prompt) > self.room:
            words = f"the prompt has {len(prompt)} tokens, and there is room for {self.room}"
            raise BadRequest(words, name, "context_length_exceeded")
        if max(prompt) >= self.vocab_size:
            raise BadRequest(f"token ids must be under {self.vocab_size}, got {max(prompt)}", name)


def stops_of(body: Body) -> list[str]:
    """Return a body's stop texts as a list."""
    return [body.stop] if isinstance(body.stop, str) else body.stop


def num_logprobs(body: CompletionBody | ChatBody) -> int | None:
    """Return how many likeliest tokens are reported beside each token; None when no log-probability is."""
    if isinstance(body, CompletionBody):
        return body.logprobs
    return (body.top_logprobs or 0) if body.logprobs else None
