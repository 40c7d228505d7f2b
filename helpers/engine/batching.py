"""Continuous batching: requests join and leave after every pass.

Sources: Orca (Yu et al., OSDI 2022) and vLLM (Kwon et al., arXiv:2309.06180).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, MutableSequence, ValuesView
from dataclasses import replace
from typing import TYPE_CHECKING

from helpers.caches.page_pool import OutOfPages
from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.engine.policy import Policy
from helpers.engine.request import Request, RequestState, TokenLogprobs
from helpers.engine.sampling import choose, logprobs_of
from helpers.engine.scheduling import RequestScheduler
from helpers.engine.step import Chunk, Part, Step
from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM
from helpers.model.text.answer_text import AnswerText

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class ContinuousBatcher:
    """Serve requests that join and leave between passes; prompts are computed in chunks beside decode steps.

    A `RequestScheduler` plans each pass: at most `token_budget` tokens of at most `max_batch_size` requests.
    Running requests come first. When pages run out, a running request is preempted: its pages are freed, and
    the request is computed again later. A request that fails, fails alone. A request that finds too few pages
    although none runs, fails.
    """

    def __init__(
        self,
        model: DecoderLM,
        cache: PagedKVCache,
        max_batch_size: int = 32,
        token_budget: int = 512,
        chunk_size: int | None = None,
        policy: str | Policy = "fcfs",
        clock: Callable[[], float] = time.perf_counter,
        log: int | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ):
        """Begin without requests; `policy` as in `RequestScheduler`.

        With a `tokenizer`, each answer has its text (`RequestState.answer`), and requests may name stop texts.

        `chunk_size` bounds the tokens of one prompt in one pass (default: the budget). `log` bounds the
        passes that `steps` keeps (default: all). A server that runs for weeks sets `log`, and takes finished
        requests out with `pop`. Raises ValueError for a size under 1 and an unknown policy.
        """
        if log is not None and log < 1:
            raise ValueError(f"the log keeps 1 pass or more, got {log}")
        self.model, self.cache, self._clock, self._tokenizer = model, cache, clock, tokenizer
        self.scheduler = RequestScheduler(
            max_batch_size, policy, token_budget, chunk_size, cache, model.cfg.max_positions, clock
        )
        self.steps: MutableSequence[Step] = [] if log is None else deque(maxlen=log)
        self._planned: list[Chunk] = []  # planned and not computed yet

    @property
    def waiting(self) -> Policy:
        """The waiting requests: how many, and which, in no particular order."""
        return self.scheduler.waiting

    @property
    def running(self) -> ValuesView[RequestState]:
        """The running requests, in order of admission."""
        return self.scheduler.running

    @property
    def finished(self) -> dict[Hashable, RequestState]:
        """The finished requests, by name."""
        return self.scheduler.finished

    def add_request(self, request: Request) -> None:
        """Put a request into the queue.

        Raises ValueError for a name that is taken, a token that the model does not know, and a stop text
        without a tokenizer. Raises ValueError also for a request that is too long for the model's positions or
        for the whole pool, unless the request asks to be cut.
        """
        self._check_tokens(request)
        answer = self._answer_of(request)
        self.scheduler.add_request(request).answer = answer

    def add_samples(self, request: Request, samples: int) -> list[Hashable]:
        """Put `samples` answers to one prompt into the queue; return their names, `(request_id, i)`.

        Each sample has a seed of its own. The prompt is computed once. Then the samples fork: all share the
        prompt's pages, and the first sample that writes into a shared page copies the page. Raises
        ValueError, before anything changes, as `add_request` does, and for less than one sample.
        """
        if samples < 1:
            raise ValueError(f"samples must be 1 or more, got {samples}")
        self._check_tokens(request)
        named = [
            replace(request, request_id=(request.request_id, i), seed=request.seed + i)
            for i in range(samples)
        ]
        answers = [self._answer_of(sample) for sample in named]
        states = self.scheduler.add_samples(named)
        for state, answer in zip(states, answers, strict=True):
            state.answer = answer
        return [state.name for state in states]

    def cancel(self, request_id: Hashable) -> None:
        """End a waiting or running request; its tokens so far stay in `finished`.

        Raises ValueError for an unknown or finished request.
        """
        self.scheduler.cancel(request_id)

    def pop(self, request_id: Hashable) -> RequestState:
        """Take a finished request out and return the request; its name is free again.

        Raises ValueError for a request that is not finished.
        """
        return self.scheduler.pop(request_id)

    def schedule_batch(self) -> list[Chunk]:
        """Return the chunks that the next pass computes; their pages are taken.

        The plan stands until `process_batch` has computed the plan, or a planned request is cancelled.
        """
        if any(chunk.state.finish_reason is not None for chunk in self._planned):
            self._drop_plan()
        if not self._planned:
            try:
                self._planned = self.scheduler.schedule()
            except BaseException:  # a policy that raises, or an interrupt: what was reserved is taken back
                self._drop_plan()
                raise
        return list(self._planned)

    def process_batch(self) -> list[tuple[Hashable, int]]:
        """Run one pass; return the new tokens as `(request_id, token)`, none when no request is left."""
        begin = self._clock()
        planned = self.schedule_batch()
        if not planned:
            return []
        parts = tuple(
            Part(state.name, state.computed, len(tokens), state.remaining == 1 and bool(state.token_ids))
            for state, tokens in planned
        )
        used = self.cache.used_pages
        chosen = self._compute(planned)
        self._planned = []
        self.steps.append(Step(begin, self._clock(), parts, tuple(self.scheduler.preempted), used))
        return chosen

    def run(self, on_token: Callable[[Hashable, int], None] | None = None) -> dict[Hashable, RequestState]:
        """Run passes until no request waits or runs; return the finished requests by name.

        `on_token` is called with each new token when the token comes.
        """
        while self.waiting or self.running:
            for name, token in self.process_batch():
                if on_token is not None:
                    on_token(name, token)
        return self.finished

    def _compute(self, planned: list[Chunk]) -> list[tuple[Hashable, int]]:
        """Compute a pass; return its new tokens. When the pass raises, try each request alone.

        So only the request at fault fails. An interrupt is passed on, and the next pass goes on from there.
        """
        try:
            return self._forward(planned)
        except BaseException as error:
            self._take_back()
            if not isinstance(error, Exception):
                raise
            if len(planned) == 1:
                self.scheduler.finish(planned[0].state, "failed", f"{type(error).__name__}: {error}")
                return []
        return [event for chunk in planned for event in self._alone(chunk.state, chunk.num_tokens)]

    def _alone(self, state: RequestState, count: int) -> list[tuple[Hashable, int]]:
        """Compute one request's part of a failed pass alone, from where its cached tokens end."""
        count = min(count, state.remaining)
        try:
            tokens = state.tokens(state.computed, state.computed + count)
            self.cache.reserve(state.name, tokens)
        except OutOfPages:  # the pages that it would have shared are gone; the next pass finds others
            return []
        return self._compute([Chunk(state, tokens)])

    def _take_back(self) -> None:
        """Roll back: set each running request to its cached length, leaving at least one token to compute.

        A request whose text was computed whole, but whose next token could not be chosen, computes its last
        token again.
        """
        self._planned = []
        lengths = self.cache.take_back({state.name: state.num_tokens - 1 for state in self.running})
        for state in self.running:
            state.computed = lengths[state.name]

    def _drop_plan(self) -> None:
        """Roll back a plan that is not computed: its tokens are charged to no request."""
        self.scheduler.drop_plan()
        self._take_back()

    def _forward(self, planned: list[Chunk]) -> list[tuple[Hashable, int]]:
        """Run the model; return a new token for each request whose text is computed to its end."""
        history = [chunk.state.computed for chunk in planned]
        names = [chunk.state.name for chunk in planned]
        logits = self.model(FlatBatch.pack([chunk.tokens for chunk in planned], history, names), self.cache)
        rows, states = self._due(planned)
        if not states:
            return []
        tokens, logprobs = self._chosen(logits, rows, states)
        now = self._clock()
        for state, token, entry in zip(states, tokens, logprobs, strict=True):
            if entry is not None:
                state.logprobs.append(entry)
            self.scheduler.took(state, token, now)
        return [(state.name, token) for state, token in zip(states, tokens, strict=True)]

    def _due(self, planned: list[Chunk]) -> tuple[list[int], list[RequestState]]:
        """Count the pass as computed; return the rows and requests that get a token, samples that fork included."""
        for state, tokens in planned:
            state.computed += len(tokens)
            state.tokens_computed += len(tokens)
        due = [
            (row, member)
            for row, (state, _) in enumerate(planned)
            if not state.remaining
            for member in self.scheduler.branch(state)
        ]
        return [row for row, _ in due], [state for _, state in due]

    @staticmethod
    def _chosen(
        logits: Tensor, rows: list[int], states: list[RequestState]
    ) -> tuple[list[int], list[TokenLogprobs | None]]:
        """Return the token of each request, chosen from its row of logits, and its log-probabilities if asked for."""
        chosen_from = logits if rows == list(range(len(logits))) else logits[rows]
        requests = [state.request for state in states]
        tokens = choose(chosen_from, requests, [len(state.token_ids) for state in states])
        return tokens, logprobs_of(chosen_from, requests, tokens)

    def _check_tokens(self, request: Request) -> None:
        """Raise ValueError for a token that the model does not know."""
        largest = max(max(request.prompt_ids), max(request.answered, default=0))
        if largest >= self.model.cfg.vocab_size:
            raise ValueError(
                f"request {request.request_id!r}: token ids must be under {self.model.cfg.vocab_size}, "
                f"got {largest}"
            )

    def _answer_of(self, request: Request) -> AnswerText | None:
        """Return the text of a request's answer so far; None without a tokenizer.

        Raises ValueError for a stop text without a tokenizer, and for an answer that has ended already.
        """
        if self._tokenizer is None:
            if request.stop:
                raise ValueError(
                    f"request {request.request_id!r}: stop texts need an engine with a tokenizer; "
                    "pass tokenizer= to the batcher"
                )
            return None
        return AnswerText(self._tokenizer, request.stop, request.min_tokens, request.answered)
