"""Static batching, the baseline of continuous batching.

Requests start together, are padded to one length, and wait for the longest answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.engine.request import Request, RequestState
from helpers.engine.sampling import choose
from helpers.engine.step import Part, Step
from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM

_PAD = 0


@dataclass(frozen=True)
class PaddedBatch(FlatBatch):
    """Hold a batch whose sequences are padded on the right; the last real token's logits count."""

    real_lens: tuple[int, ...] = ()
    """Tokens of each sequence without padding."""

    @property
    def last_token_indices(self) -> Tensor:
        """Indices `[B]` int64 of each sequence's last real token among the `T` tokens."""
        starts = torch.tensor(self.query_start_loc[:-1], device=self.token_ids.device)
        return starts + torch.tensor(self.real_lens, device=self.token_ids.device) - 1


class StaticBatcher:
    """Serve whole batches one after the other, with the model, cache and log of `ContinuousBatcher`.

    Prompts are padded on the right to the batch's longest prompt. Every row goes on until the longest answer
    ends. Wasted tokens are computed and counted: `Part.num_tokens` and `RequestState.tokens_computed` contain
    padding. A `Part` of a finished request is padding only.
    """

    def __init__(
        self,
        model: DecoderLM,
        cache: PagedKVCache,
        max_batch_size: int = 32,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Begin without requests. Raises ValueError for a batch of less than one."""
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size must be 1 or more, got {max_batch_size}")
        self.model, self.cache, self.max_batch_size = model, cache, max_batch_size
        self.waiting: list[RequestState] = []
        self.finished: dict[Hashable, RequestState] = {}
        self.steps: list[Step] = []
        self._clock = clock

    def add_request(self, request: Request) -> None:
        """Put a request into the queue.

        Raises ValueError for a name that is taken, and for stop texts and log-probabilities, which only
        `ContinuousBatcher` has.
        """
        if request.request_id in self.finished or any(s.name == request.request_id for s in self.waiting):
            raise ValueError(f"request {request.request_id!r} is here already")
        if request.stop or request.logprobs is not None:
            raise ValueError(
                f"request {request.request_id!r}: stop texts and logprobs need a ContinuousBatcher"
            )
        room = min(self.model.cfg.max_positions, self.cache.capacity)
        self.waiting.append(RequestState(request.cut_to(room), self._clock()))

    def run(self) -> dict[Hashable, RequestState]:
        """Serve all waiting requests; return the finished requests by name."""
        while self.waiting:
            self.process_batch()
        return self.finished

    def process_batch(self) -> list[tuple[Hashable, int]]:
        """Serve the first `max_batch_size` waiting requests to the end of the longest answer.

        Returns the new tokens as `(request_id, token)`. Raises ValueError, before anything changes, when the
        rows do not fit at their full length.
        """
        states = self.waiting[: self.max_batch_size]
        if not states:
            return []
        self._check_room(states)
        del self.waiting[: len(states)]
        chosen = self._prefill(states)
        while any(state.finish_reason is None for state in states):
            chosen += self._pass(states, FlatBatch.pack(
                [state.token_ids[-1:] for state in states],
                [self.cache.length(state.name) for state in states],
                [state.name for state in states],
            ), decode=True)  # fmt: skip
        for state in states:
            self.cache.free_request(state.name)
            self.finished[state.name] = state
        return chosen

    def _check_room(self, states: list[RequestState]) -> None:
        """Raise ValueError unless the pool has pages for the longest prompt and answer in every row."""
        text = max(state.num_tokens for state in states)
        longest = text + max(state.request.max_tokens - len(state.token_ids) for state in states) - 1
        pages, free = len(states) * -(-longest // self.cache.page_size), self.cache.free_pages
        if pages > free or longest > self.model.cfg.max_positions:
            raise ValueError(
                f"{len(states)} rows of {longest} tokens need {pages} pages and as many positions; "
                f"there are {free} free pages and {self.model.cfg.max_positions} positions"
            )

    def _prefill(self, states: list[RequestState]) -> list[tuple[Hashable, int]]:
        """Compute the padded prompts in one pass; return the first tokens.

        The padding's positions are freed afterwards; the answers are written there.
        """
        lengths = [state.num_tokens for state in states]
        rows = [[*state.text, *[_PAD] * (max(lengths) - state.num_tokens)] for state in states]
        flat = FlatBatch.pack(rows, seq_ids=[state.name for state in states])
        batch = PaddedBatch(**vars(flat), real_lens=tuple(lengths))
        chosen = self._pass(states, batch, decode=False)
        self.cache.take_back(dict(zip((state.name for state in states), lengths, strict=True)))
        return chosen

    def _pass(self, states: list[RequestState], batch: FlatBatch, decode: bool) -> list[tuple[Hashable, int]]:
        """Compute one pass over all rows; return the new tokens, without those of finished requests."""
        begin, counts, history = self._clock(), batch.query_lens, batch.history_lens
        parts = tuple(Part(s.name, h, n, decode) for s, h, n in zip(states, history, counts, strict=True))
        logits = self.model(batch, self.cache)
        used = self.cache.used_pages
        places = [len(state.token_ids) for state in states]
        tokens = choose(logits, [state.request for state in states], places)
        now = self._clock()
        self.steps.append(Step(begin, now, parts, (), used))
        for state, count in zip(states, counts, strict=True):
            state.first_scheduled = begin if state.first_scheduled is None else state.first_scheduled
            state.tokens_computed += count
        alive = [(s, token) for s, token in zip(states, tokens, strict=True) if s.finish_reason is None]
        for state, token in alive:
            if (reason := state.take(token, now)) is not None:
                state.end(reason, "", now)
        return [(state.name, token) for state, token in alive]
