"""The scheduler: who computes how many tokens in the next pass. It knows requests and free pages, never tensors.

Running requests first, then waiting ones from what is left of the budget, as in vLLM (Kwon et al., arXiv:2309.06180); prompts in
chunks beside the others' decode steps (Sarathi-Serve, arXiv:2403.02310).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence, ValuesView

from helpers.caches.page_pool import OutOfPages
from helpers.engine.pages import Pages
from helpers.engine.policies import named_policy
from helpers.engine.policy import Policy
from helpers.engine.request import FinishReason, Request, RequestState
from helpers.engine.samples import Samples


class RequestScheduler:
    """Requests from their arrival to their end. Between passes somebody who computes calls `schedule`, then `took` for each token.

    A pass computes at most `token_budget` tokens of at most `max_batch_size` requests. When pages run out, running requests are
    preempted: their pages are freed, and they wait to be computed again. `policy` says who is admitted next and who gives way.
    A waiting request is admitted when its whole text finds pages; while the first of the queue finds none, nobody is. If nobody
    runs, either, it fails: whoever holds the pages is not served here, and waiting would not end.
    """

    def __init__(
        self,
        max_batch_size: int = 32,
        policy: str | Policy = "fcfs",
        token_budget: int = 512,
        chunk_size: int | None = None,
        pages: Pages | None = None,
        room: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """`policy` is a name of `policies.POLICIES` or a policy of one's own, which must not serve anybody else.

        `chunk_size` bounds the tokens of one prompt in one pass (default: the budget), `room` those of one request (default: what
        the pages hold). Without `pages`, memory is no limit. Raises ValueError for a size under 1 and an unknown policy.
        """
        sizes = (max_batch_size, token_budget, token_budget if chunk_size is None else chunk_size)
        if min(sizes) < 1:
            raise ValueError(f"sizes must be 1 or more, got {sizes} (requests, token budget, chunk)")
        self.max_batch_size, self.token_budget, self.chunk_size = sizes
        self.policy = named_policy(policy) if isinstance(policy, str) else policy
        self.pages, self.finished = pages, dict[Hashable, RequestState]()
        self.preempted: list[Hashable] = []
        """Who gave way when the last pass was planned."""
        capacity = pages.pool.num_pages * pages.pool.page_size if pages is not None else None
        self.room = min((size for size in (room, capacity) if size is not None), default=None)
        self._clock = clock
        self._states: dict[Hashable, RequestState] = {}  # who is on their way
        self._running: dict[Hashable, RequestState] = {}
        self._samples = Samples()
        self._planned: dict[Hashable, tuple[RequestState, int]] = {}
        self._left = self._arrivals = 0
        self.policy.attach(pages.pool if pages is not None else None)

    @property
    def waiting(self) -> Policy:
        """Those who wait: how many, and who, in no particular order."""
        return self.policy

    @property
    def running(self) -> ValuesView[RequestState]:
        """Those who have been admitted, in that order."""
        return self._running.values()

    def add_request(self, request: Request) -> RequestState:
        """Puts a request into the queue. Raises ValueError for a name that is taken and a request that could never fit."""
        return self.add_samples([request])[0]

    def add_samples(self, requests: Sequence[Request]) -> list[RequestState]:
        """Puts the first one into the queue; the others, with the same prompt, wait until it is computed and share it (`branch`).

        Raises ValueError, before anything changes, as `add_request` does, for no request, and for prompts or salts that differ.
        """
        if not requests or any(_differ(request, requests[0]) for request in requests[1:]):
            raise ValueError("samples have one prompt and one salt")
        names = [request.request_id for request in requests]
        for i, request in enumerate(requests):
            self._check(request)
            if names.index(request.request_id) < i:
                raise ValueError(f"request {request.request_id!r} is here already")
        states = [self._arrive(request) for request in requests]
        self.policy.push(states[0])
        self._samples.hold(states[0], states[1:])
        return states

    def branch(self, state: RequestState) -> list[RequestState]:
        """A request whose text has just been computed, and the samples that run from here on, sharing all of its pages.

        To be called before its first token is `took`. Samples that find no seat join the queue.
        """
        seats, samples = self.max_batch_size - len(self._running), self._samples.release(state)
        for sample in samples[:seats]:
            if self.pages is not None:
                self.pages.pool.fork(state.name, sample.name)
                state.spare = 0  # its last page is no longer its own
            sample.computed = sample.cached_tokens = state.computed
            sample.first_scheduled = state.first_scheduled
            self._running[sample.name] = sample
            self.policy.charge(sample, 0)
        for sample in samples[seats:]:
            self.policy.push(sample)
        return [state, *samples[:seats]]

    def _check(self, request: Request) -> None:
        """Raises ValueError for what `add_request` refuses."""
        if request.request_id in self._states or request.request_id in self.finished:
            raise ValueError(f"request {request.request_id!r} is here already")
        longest = len(request.prompt_ids) + request.max_tokens - 1  # the last token is never computed
        if self.room is not None and longest > self.room:
            raise ValueError(
                f"request {request.request_id!r} may need {longest} tokens, there is room for {self.room}"
            )

    def _arrive(self, request: Request) -> RequestState:
        """A request's state, known from now on."""
        self._arrivals += 1
        state = RequestState(request, self._clock(), order=self._arrivals)
        self._states[state.name] = state
        return state

    def cancel(self, request_id: Hashable) -> None:
        """Ends a request wherever it is; what it has so far stays in `finished`. ValueError for one that is not on its way."""
        if request_id not in self._states:
            raise ValueError(f"request {request_id!r} is not on its way")
        self.finish(self._states[request_id], "cancelled")

    def schedule(self) -> list[tuple[RequestState, int]]:
        """Who computes how many tokens in the next pass; their pages are taken."""
        self.preempted, self._planned, self._left = [], {}, self.token_budget
        self._make_way()
        short = False
        for state in list(self._running.values()):
            if self._left and state.name in self._running:
                short |= self._continue(state)
        while self._left and self.waiting and not short and len(self._running) < self.max_batch_size:
            if not self._admit(self.policy.first(self._clock())):
                break
        self._give_up()
        return list(self._planned.values())

    def would_admit(self) -> bool:
        """Whether the first of those who wait would be admitted now, if anybody waits."""
        return bool(self.waiting) and self._has_place(self.policy.first(self._clock()))

    def reserve(self, state: RequestState, count: int) -> None:
        """Takes pages for a running request's next tokens, and charges them to it. Raises OutOfPages before anything changes."""
        if count <= state.spare:
            state.spare -= count
            state.untold += count
        elif self.pages is not None:
            tokens = state.tokens(state.computed - state.untold, state.computed + count)
            state.spare = self.pages.reserve(state.name, tokens) or 0
            state.untold = 0
        self.policy.charge(state, count)

    def took(self, state: RequestState, token: int, now: float) -> None:
        """Adds a token to an answer, and ends it where its rules say so."""
        for sample in self._samples.release(state):  # nobody has called `branch`
            self.policy.push(sample)
        state.token_ids.append(token)
        state.token_times.append(now)
        if token in state.request.stop_ids:
            self.finish(state, "stop")
        elif len(state.token_ids) == state.request.max_tokens:
            self.finish(state, "length")

    def finish(self, state: RequestState, reason: FinishReason, error: str = "") -> None:
        """Ends a request; its pages go back to the pool."""
        if self._running.pop(state.name, None) is not None:
            if self.pages is not None:
                self.pages.free_request(state.name)
        elif not self._samples.withdraw(state):
            self.policy.remove(state)
        # If its prompt was not computed yet, that is the next sample's work.
        if samples := self._samples.release(state):
            self.policy.push(samples[0])
            self._samples.hold(samples[0], samples[1:])
        self.policy.leave(state)
        del self._states[state.name]
        state.finish_reason, state.error, state.ended = reason, error, self._clock()
        self.finished[state.name] = state

    def _give_up(self) -> None:
        """Fails those who wait for pages although nobody runs who could give some back."""
        while (
            self.waiting
            and not self._running
            and not self._has_place(state := self.policy.first(self._clock()))
        ):
            assert self.pages is not None  # without pages, and with nobody running, there is a place
            pool = self.pages.pool
            needed = pool.pages_to_admit(state.text, state.request.salt)
            error = OutOfPages(state.name, needed, pool.num_free, pool.num_pages)
            self.finish(state, "failed", f"OutOfPages: {error}, and nobody runs who could give some back")

    def _make_way(self) -> None:
        """Preempts those whose places the policy gives to the first of the queue, as long as there is none for it."""
        if not self.policy.preemptive:
            return
        while self.waiting and self._running and not self._has_place(self.policy.first(now := self._clock())):
            state = self.policy.displaced(list(self._running.values()), now)
            if state is None:
                return
            self._preempt(state)

    def _has_place(self, state: RequestState) -> bool:
        """Whether a waiting request finds a seat, and pages for its whole text."""
        if len(self._running) >= self.max_batch_size:
            return False
        if self.pages is None:
            return True
        pool = self.pages.pool
        return pool.pages_to_admit(state.text, state.request.salt) <= pool.num_free

    def _continue(self, state: RequestState) -> bool:
        """Plans a running request's next tokens, preempting others, or itself, if pages are short; whether they were."""
        if (
            state.spare and state.remaining == 1
        ):  # by far the commonest case, and a simulator's time: no page to ask for
            state.spare -= 1
            state.untold += 1
            self._planned[state.name] = (state, 1)
            self._left -= 1
            self.policy.charge(state, 1)
            return False
        count, short = min(state.remaining, self._left, self.chunk_size), False
        while state.name in self._running:
            try:
                self._plan(state, count)
                break
            except OutOfPages:
                short = True
                self._preempt(self.policy.victim(list(self._running.values()), self._clock()))
        return short

    def _admit(self, state: RequestState) -> bool:
        """Admits a waiting request if it has a place, and plans its first chunk; whether it did."""
        if not self._has_place(state):
            return False
        if self.pages is not None:
            cached = self.pages.allocate_request(state.name, state.text, state.request.salt)
            state.computed = state.cached_tokens = cached
        self.policy.pop(state)
        self._running[state.name] = state
        if state.first_scheduled is None:
            state.first_scheduled = self._clock()
        self._plan(state, min(state.remaining, self._left, self.chunk_size))
        return True

    def _plan(self, state: RequestState, count: int) -> None:
        """Takes pages for tokens, and the tokens from the budget. Raises OutOfPages before anything changes."""
        self.reserve(state, count)
        self._planned[state.name] = (state, count)
        self._left -= count

    def _preempt(self, state: RequestState) -> None:
        """Takes a running request's pages and place away, and its part of the pass that is planned; it waits again."""
        if self.pages is not None:
            self.pages.free_request(state.name)
        del self._running[state.name]
        self._left += self._planned.pop(state.name, (state, 0))[1]
        state.computed = state.spare = state.untold = 0
        state.preemptions += 1
        self.preempted.append(state.name)
        self.policy.push(state)


def _differ(one: Request, other: Request) -> bool:
    """Whether two requests could not share their prompt's keys and values."""
    return list(one.prompt_ids) != list(other.prompt_ids) or one.salt != other.salt
