"""Continuous batching: after every pass, who goes on, who joins, who leaves (Orca, OSDI 2022; vLLM, arXiv:2309.06180)."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from helpers.batch import FlatBatch
from helpers.model import DecoderLM
from helpers.page_pool import OutOfPages
from helpers.paged_kv_cache import PagedKVCache
from helpers.request import FinishReason, Request, RequestState
from helpers.sampling import choose


class Policy(Protocol):
    """Who is served next, and who gives way when pages run out."""

    def next(self, waiting: Sequence[RequestState], now: float) -> RequestState:
        """The one of the `waiting` (never empty) to be admitted next."""

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """The one of the `running` (in order of admission, never empty) to be preempted."""


class FirstComeFirstServed:
    """Admits in order of arrival; a preempted request comes before those that have never run. The last one admitted gives way."""

    def next(self, waiting: Sequence[RequestState], now: float) -> RequestState:
        """The first of the queue."""
        return waiting[0]

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """The last one admitted: it has lost the least."""
        return running[-1]


@dataclass(frozen=True)
class Part:
    """One request's share of a pass."""

    request_id: Hashable
    start: int
    """Tokens that it had computed before."""
    num_tokens: int
    """Tokens computed in this pass."""
    decode: bool
    """Whether that was the single token chosen last, rather than a chunk of text."""


@dataclass(frozen=True)
class Step:
    """One pass of the engine, for tables and charts."""

    begin: float
    end: float
    parts: tuple[Part, ...]
    preempted: tuple[Hashable, ...]
    used_pages: int


class ContinuousBatcher:
    """An engine: requests join and leave between passes, prompts are computed in chunks beside the others' decode steps.

    A pass computes at most `token_budget` tokens of at most `max_batch_size` requests. Running requests come first; what is
    left of the budget goes to waiting ones. When pages run out, a running request is preempted: its pages are freed
    and it is computed again later. A request that fails, fails alone.
    """

    def __init__(
        self,
        model: DecoderLM,
        cache: PagedKVCache,
        max_batch_size: int = 32,
        token_budget: int = 512,
        chunk_size: int | None = None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """`chunk_size` bounds the tokens of one prompt in one pass (default: the budget). Raises ValueError for a size under 1."""
        sizes = (max_batch_size, token_budget, token_budget if chunk_size is None else chunk_size)
        if min(sizes) < 1:
            raise ValueError(f"sizes must be 1 or more, got {sizes} (requests, token budget, chunk)")
        self.model, self.cache, self.policy = model, cache, policy or FirstComeFirstServed()
        self.max_batch_size, self.token_budget, self.chunk_size = sizes
        self.waiting: list[RequestState] = []
        self.running: list[RequestState] = []
        self.finished: dict[Hashable, RequestState] = {}
        self.steps: list[Step] = []
        self._clock = clock
        self._preempted: list[Hashable] = []

    def add_request(self, request: Request) -> None:
        """Puts a request into the queue.

        Raises ValueError for a name that is taken, a token the model does not know, and a request that could never fit, be it
        into the model's positions or alone into the pool.
        """
        states = (*self.waiting, *self.running, *self.finished.values())
        if any(state.name == request.request_id for state in states):
            raise ValueError(f"request {request.request_id!r} is here already")
        if max(request.prompt_ids) >= self.model.cfg.vocab_size:
            raise ValueError(
                f"request {request.request_id!r}: token ids must be under {self.model.cfg.vocab_size}, "
                f"got {max(request.prompt_ids)}"
            )
        longest = len(request.prompt_ids) + request.max_tokens - 1  # the last token is never computed
        room = min(self.model.cfg.max_positions, self.cache.pool.num_pages * self.cache.page_size)
        if longest > room:
            raise ValueError(
                f"request {request.request_id!r} may need {longest} tokens, there is room for {room}"
            )
        self.waiting.append(RequestState(request, self._clock()))

    def add_samples(self, request: Request, samples: int) -> list[Hashable]:
        """Puts `samples` answers to one prompt into the queue, named `(request_id, i)`, each with a seed of its own.

        They are one prompt's work: what is cached of it is shared, page by page. Raises ValueError as `add_request` does.
        """
        if samples < 1:
            raise ValueError(f"samples must be 1 or more, got {samples}")
        names: list[Hashable] = [(request.request_id, i) for i in range(samples)]
        for i, name in enumerate(names):
            self.add_request(replace(request, request_id=name, seed=request.seed + i))
        return names

    def cancel(self, request_id: Hashable) -> None:
        """Ends a request wherever it is; what it has so far stays in `finished`. ValueError for one that is not on its way."""
        for state in (*self.waiting, *self.running):
            if state.name == request_id:
                self._finish(state, "cancelled")
                return
        raise ValueError(f"request {request_id!r} is not on its way")

    def schedule_batch(self) -> list[tuple[RequestState, int]]:
        """Who computes how many tokens in the next pass; their pages are taken."""
        self._preempted = []
        planned: list[tuple[RequestState, int]] = []
        budget = self.token_budget
        for state in list(self.running):
            if budget and state in self.running and (count := self._continue(state, budget)):
                planned.append((state, count))
                budget -= count
        while budget and self.waiting and not self._preempted and len(self.running) < self.max_batch_size:
            state = self.policy.next(self.waiting, self._clock())
            count = self._admit(state, budget)
            if not count:
                break
            planned.append((state, count))
            budget -= count
        return planned

    def process_batch(self) -> list[tuple[Hashable, int]]:
        """Runs one pass; gives the new tokens as `(request_id, token)`. Empty when nothing is left to do."""
        begin = self._clock()
        planned = self.schedule_batch()
        if not planned:
            return []
        parts = tuple(
            Part(state.name, state.computed, count, state.remaining == 1 and bool(state.token_ids))
            for state, count in planned
        )
        for state, _ in planned:
            state.first_scheduled = begin if state.first_scheduled is None else state.first_scheduled
        used = self.cache.pool.num_used
        chosen = self._compute(planned)
        self.steps.append(Step(begin, self._clock(), parts, tuple(self._preempted), used))
        return chosen

    def run(self, on_token: Callable[[Hashable, int], None] | None = None) -> dict[Hashable, RequestState]:
        """Works until nobody waits or runs; gives all finished requests by name. `on_token` is called as tokens come."""
        while self.waiting or self.running:
            for name, token in self.process_batch():
                if on_token is not None:
                    on_token(name, token)
        return self.finished

    def _continue(self, state: RequestState, budget: int) -> int:
        """Takes pages for a running request's next tokens, preempting others if it must; 0 when it is preempted itself."""
        count = min(state.remaining, budget, self.chunk_size)
        while True:
            try:
                self.cache.reserve(state.name, state.text[state.computed : state.computed + count])
                return count
            except OutOfPages:
                victim = self.policy.victim(self.running, self._clock())
                self._preempt(victim)
                if victim is state:
                    return 0

    def _admit(self, state: RequestState, budget: int) -> int:
        """Admits a waiting request if its whole text finds pages, and takes those of its first chunk; 0 if it must wait."""
        pool, text = self.cache.pool, state.text
        if pool.pages_to_admit(text, state.request.salt) > pool.num_free:
            return 0
        state.computed = state.cached_tokens = self.cache.allocate_request(
            state.name, text, state.request.salt
        )
        count = min(state.remaining, budget, self.chunk_size)
        self.cache.reserve(state.name, text[state.computed : state.computed + count])
        self.waiting.remove(state)
        self.running.append(state)
        return count

    def _preempt(self, state: RequestState) -> None:
        """Takes a running request's pages away and puts it before the queue."""
        self.cache.free_request(state.name)
        self.running.remove(state)
        self.waiting.insert(0, state)
        state.computed = 0
        state.preemptions += 1
        self._preempted.append(state.name)

    def _compute(self, planned: list[tuple[RequestState, int]]) -> list[tuple[Hashable, int]]:
        """One pass. When it raises, each request is tried alone, so that only the one at fault fails."""
        try:
            return self._forward(planned)
        except Exception as error:
            self.cache.abandon()
            for state, _ in planned:
                state.computed = self.cache.pool.length(state.name)
            if len(planned) == 1:
                self._finish(planned[0][0], "failed", f"{type(error).__name__}: {error}")
                return []
        return [event for state, count in planned for event in self._alone(state, count)]

    def _alone(self, state: RequestState, count: int) -> list[tuple[Hashable, int]]:
        """One request's part of a pass that failed, by itself; it starts where its cached tokens end."""
        count = min(count, state.remaining)
        self.cache.reserve(state.name, state.text[state.computed : state.computed + count])
        return self._compute([(state, count)])

    def _forward(self, planned: list[tuple[RequestState, int]]) -> list[tuple[Hashable, int]]:
        """The pass itself, and a new token for each request whose text is computed to its end."""
        chunks = [state.text[state.computed : state.computed + count] for state, count in planned]
        history = [state.computed for state, _ in planned]
        names = [state.name for state, _ in planned]
        logits = self.model(FlatBatch.pack(chunks, history, names), self.cache)
        for state, count in planned:
            state.computed += count
            state.tokens_computed += count
        due = [i for i, (state, _) in enumerate(planned) if not state.remaining]
        states = [planned[i][0] for i in due]
        rows = logits if len(due) == len(planned) else logits[due]
        tokens = choose(rows, [s.request for s in states], [len(s.token_ids) for s in states]) if due else []
        now = self._clock()
        for state, token in zip(states, tokens, strict=True):
            self._take(state, token, now)
        return [(state.name, token) for state, token in zip(states, tokens, strict=True)]

    def _take(self, state: RequestState, token: int, now: float) -> None:
        """Adds a token to an answer, and ends it where its rules say so."""
        state.token_ids.append(token)
        state.token_times.append(now)
        if token in state.request.stop_ids:
            self._finish(state, "stop")
        elif len(state.token_ids) == state.request.max_tokens:
            self._finish(state, "length")

    def _finish(self, state: RequestState, reason: FinishReason, error: str = "") -> None:
        """Takes a request out of the engine; its pages go back to the pool."""
        if state in self.running:
            self.running.remove(state)
            self.cache.free_request(state.name)
        else:
            self.waiting.remove(state)
        state.finish_reason, state.error = reason, error
        self.finished[state.name] = state
