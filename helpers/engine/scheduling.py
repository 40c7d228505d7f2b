"""The scheduler: which requests compute how many tokens in the next pass.

A scheduler knows requests and free pages, never tensors. Running requests come first, then waiting requests
from the rest of the budget, as in vLLM (Kwon et al., arXiv:2309.06180). Prompts are computed in chunks beside
decode steps, as in Sarathi-Serve (arXiv:2403.02310).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence, ValuesView

from helpers.caches.page_pool import OutOfPages
from helpers.caches.pages import Pages
from helpers.engine.offers import Admission, Offers
from helpers.engine.policies import named_policy
from helpers.engine.policy import Policy
from helpers.engine.request import FinishReason, Request, RequestState
from helpers.engine.samples import Samples
from helpers.engine.step import Chunk


class RequestScheduler:
    """Plan passes, from the arrival of requests to their end.

    An engine calls `schedule` before each pass, and `took` for each new token. A pass computes at most
    `token_budget` tokens of at most `max_batch_size` requests. When pages run out, running requests are
    preempted: their pages are freed, and those requests wait to be computed again. No request is preempted
    unless that suffices. `policy` says which waiting request is admitted next, and which running request is
    preempted.

    A waiting request is admitted when free pages suffice for its whole text and for what running prompts
    still lack. While the first request of the queue finds too few pages, no request is admitted. If no
    request runs either, that first request fails: the pages are held outside this scheduler, and waiting
    would not end.
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
        admission: Admission | None = None,
    ):
        """Begin without requests.

        `policy` is a name of `policies.POLICIES`, or a policy that serves no other engine. `chunk_size`
        bounds the tokens of one prompt in one pass (default: the budget). `room` bounds the tokens of one
        request (default: what the pages hold). Without `pages`, memory is no limit. `admission` is the rule above unless another is given. Raises ValueError for a
        size under 1 and an unknown policy.
        """
        sizes = (max_batch_size, token_budget, token_budget if chunk_size is None else chunk_size)
        if min(sizes) < 1:
            raise ValueError(f"sizes must be 1 or more, got {sizes} (requests, token budget, chunk)")
        self.max_batch_size, self.token_budget, self.chunk_size = sizes
        self.policy = named_policy(policy) if isinstance(policy, str) else policy
        self.pages, self.finished = pages, dict[Hashable, RequestState]()
        self.preempted: list[Hashable] = []
        """Requests that were preempted when the last pass was planned."""
        limits = (room, pages.capacity if pages is not None else None)
        self.room = min((size for size in limits if size is not None), default=None)
        self._clock, self.admission = clock, admission or Admission()
        self._states: dict[Hashable, RequestState] = {}  # all requests that are not finished
        self._running: dict[Hashable, RequestState] = {}
        self._prefilling: dict[Hashable, RequestState] = {}  # running requests whose text is not computed yet
        self._samples = Samples()
        self._offers = Offers(pages) if pages is not None else None
        self._planned: dict[Hashable, Chunk] = {}
        self._left = self._arrivals = 0
        self._charges = type(self.policy).charge is not Policy.charge  # most policies keep no accounts
        self.policy.attach(self._offers.cached_tokens if self._offers is not None else None)

    @property
    def waiting(self) -> Policy:
        """The waiting requests: how many, and which, in no particular order."""
        return self.policy

    @property
    def running(self) -> ValuesView[RequestState]:
        """The admitted requests, in order of admission."""
        return self._running.values()

    def add_request(self, request: Request) -> RequestState:
        """Put a request into the queue; return its state.

        Raises ValueError for a name that is taken and a request that could never fit.
        """
        return self.add_samples([request])[0]

    def add_samples(self, requests: Sequence[Request]) -> list[RequestState]:
        """Put the first request into the queue; return the states of all requests.

        The other requests, with the same prompt, wait until the prompt is computed (`branch`). Raises
        ValueError, before anything changes, as `add_request` does, for no request, and for prompts or salts
        that differ.
        """
        if not requests or any(_differ(request, requests[0]) for request in requests[1:]):
            raise ValueError("samples have one prompt and one salt")
        if self.room is not None:
            requests = [request.cut_to(self.room) for request in requests]
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
        """Return a request whose text has just been computed, and the samples that run from here on.

        The samples share all pages of the request. Samples that find no seat join the queue. An engine calls
        `branch` before `took` gets the request's first token.
        """
        if not self._samples:
            return [state]
        seats, samples = self.max_batch_size - len(self._running), self._samples.release(state)
        for sample in samples[:seats]:
            if self.pages is not None:
                self.pages.fork(state.name, sample.name)
            sample.computed = state.computed
            sample.cached_tokens = min(state.computed, state.num_prompt)
            sample.first_scheduled = state.first_scheduled
            self._running[sample.name] = sample
            self.policy.charge(sample, 0)
        for sample in samples[seats:]:
            self.policy.push(sample)
        return [state, *samples[:seats]]

    def _check(self, request: Request) -> None:
        """Raise ValueError for what `add_request` refuses."""
        if request.request_id in self._states or request.request_id in self.finished:
            raise ValueError(f"request {request.request_id!r} is here already")
        longest = len(request.prompt_ids) + request.max_tokens - 1  # the last token is never computed
        if self.room is not None and longest > self.room:
            raise ValueError(
                f"request {request.request_id!r} may need {longest} tokens, there is room for {self.room}"
            )

    def _arrive(self, request: Request) -> RequestState:
        """Return a new request's state, known from now on."""
        self._arrivals += 1
        state = RequestState(request, self._clock(), order=self._arrivals)
        self._states[state.name] = state
        return state

    def cancel(self, request_id: Hashable) -> None:
        """End a waiting or running request; its tokens so far stay in `finished`.

        Raises ValueError for an unknown or finished request.
        """
        if request_id not in self._states:
            raise ValueError(f"request {request_id!r} is not on its way")
        self.finish(self._states[request_id], "cancelled")

    def pop(self, request_id: Hashable) -> RequestState:
        """Take a finished request out and return the request; its name is free again.

        Raises ValueError for a request that is not finished.
        """
        if request_id not in self.finished:
            raise ValueError(f"request {request_id!r} is not finished")
        return self.finished.pop(request_id)

    def schedule(self) -> list[Chunk]:
        """Return the chunks that the next pass computes; their pages are taken."""
        self.preempted, self._planned, self._left = [], {}, self.token_budget
        self._make_way()
        short = False
        for state in list(self._running.values()):
            if self._left and (not self.preempted or state.name in self._running):
                short |= self._continue(state)
        while self._left and self.waiting and not short and len(self._running) < self.max_batch_size:
            if not self._admit(self.policy.first(self._clock())):
                break
        self._give_up()
        return list(self._planned.values())

    def drop_plan(self) -> None:
        """Forget a plan that is not computed: its tokens are charged to no request."""
        for state, tokens in self._planned.values():
            if state.finish_reason is None:
                self.policy.charge(state, -len(tokens))
        self._planned = {}

    def would_admit(self) -> bool:
        """Return whether the first waiting request would be admitted now; False when none waits."""
        return bool(self.waiting) and self._has_place(self.policy.first(self._clock()))

    def decode(self, states: Sequence[RequestState], passes: int) -> None:
        """Take pages for `passes` passes that each compute one token of these running requests; charge them.

        The tokens are known, and the pages suffice: an engine that simulates passes together has checked.
        """
        if self.pages is not None:
            texts = [(state.name, state.tokens(state.computed, state.computed + passes)) for state in states]
            self.pages.reserve_in_turn(texts)
        if self._charges:
            for state in states:
                self.policy.charge(state, passes)

    def took(self, state: RequestState, token: int, now: float) -> None:
        """Add a token to a running request's answer, and end the request where its rules say so.

        Raises ValueError, before anything changes, for a request that does not run.
        """
        if self._running.get(state.name) is not state:
            raise ValueError(f"request {state.name!r} does not run, so it takes no token")
        if self._samples:
            for sample in self._samples.release(state):  # `branch` was not called
                self.policy.push(sample)
        reason = state.take(token, now)
        if reason is not None:
            self.finish(state, reason)

    def finish(self, state: RequestState, reason: FinishReason, error: str = "") -> None:
        """End a request; its pages are freed."""
        if self._running.pop(state.name, None) is not None:
            self._prefilling.pop(state.name, None)
            if self.pages is not None:
                self.pages.free_request(state.name)
        elif not self._samples.withdraw(state):
            self.policy.remove(state)
        # If the request's prompt was not computed yet, its next sample computes it.
        if samples := self._samples.release(state):
            self.policy.push(samples[0])
            self._samples.hold(samples[0], samples[1:])
        if self._offers is not None:
            self._offers.forget(state)
        self.policy.leave(state)
        del self._states[state.name]
        state.end(reason, error, self._clock())
        self.finished[state.name] = state

    def _give_up(self) -> None:
        """Fail the first waiting requests that lack pages while no request runs that could free pages."""
        while (
            self.waiting
            and not self._running
            and not self._has_place(state := self.policy.first(self._clock()))
        ):
            if self.pages is None or self._offers is None:  # without pages, an idle engine has a place
                return
            error = self.pages.refusal(state.name, self._offers.to(state))
            self.finish(state, "failed", f"OutOfPages: {error}, and no request runs that could free pages")

    def _make_way(self) -> None:
        """Preempt the requests that the policy names if the first waiting request then has a place."""
        if not self.policy.preemptive or not self.waiting:
            return
        now = self._clock()
        state, running, victims = self.policy.first(now), list(self._running.values()), list[RequestState]()
        while not self._has_place(state, victims):
            victim = self.policy.displaced(running, now) if running else None
            if victim is None:
                return
            running.remove(victim)
            victims.append(victim)
        for victim in victims:
            self.policy.displace(victim)
            self._preempt(victim)

    def _has_place(self, state: RequestState, without: Sequence[RequestState] = ()) -> bool:
        """Return whether a waiting request finds a seat and pages for its whole text.

        The requests `without` count as preempted.
        """
        if len(self._running) - len(without) >= self.max_batch_size:
            return False
        if self.pages is None or self._offers is None:
            return True
        freed = [victim.name for victim in without]
        return self.pages.fits(self._offers.to(state), freed, self._kept_free(self.pages, freed))

    def _kept_free(self, pages: Pages, without: Sequence[Hashable]) -> int:
        """Return the pages that an admission must leave free, by the rule `admission`, if the requests `without` were preempted."""
        if len(self._running) == len(without):
            return 0
        watermark = math.ceil(self.admission.watermark * pages.capacity / pages.page_size)
        if not self.admission.owed:
            return watermark
        return watermark + sum(
            pages.owed_pages(state.num_tokens, state.computed + self._num_planned(name))
            for name, state in self._prefilling.items()
            if name not in without
        )

    def _num_planned(self, name: Hashable) -> int:
        """Return the tokens of a request in the planned pass."""
        return len(self._planned[name].tokens) if name in self._planned else 0

    def _continue(self, state: RequestState) -> bool:
        """Plan a running request's next tokens; return whether pages were short.

        If pages are short, the requests that the policy names are preempted if that suffices, or else this
        request.
        """
        remaining = count = state.remaining
        if count > 1:
            count = min(count, self._left, self.chunk_size)
        try:
            self._plan(state, count, remaining)
            return False
        except OutOfPages:
            victims = self._victims(state, count)
        for victim in victims:
            self._preempt(victim)
        if state.name in self._running:
            self._plan(state, count, remaining)
        return True

    def _victims(self, state: RequestState, count: int) -> list[RequestState]:
        """Return the requests to preempt so that `state` finds pages for its next tokens.

        This is `state` itself where other requests do not suffice.
        """
        running, victims = list(self._running.values()), list[RequestState]()
        while True:
            victim = self.policy.victim(running, self._clock())
            if victim is state or self.pages is None:
                return [state]
            running.remove(victim)
            victims.append(victim)
            if self.pages.can_reserve(state.name, count, [v.name for v in victims]):
                return victims

    def _admit(self, state: RequestState) -> bool:
        """Admit a waiting request that has a place, and plan its first chunk; return whether it had one."""
        if not self._has_place(state):
            return False
        if self.pages is not None and self._offers is not None:
            state.computed = self.pages.begin(state.name, self._offers.to(state), state.preemptions > 0)
            if state.first_scheduled is None:  # later, the request finds its own text: that is no hit
                state.cached_tokens = min(state.computed, state.num_prompt)
        self.policy.pop(state)
        if self._offers is not None:
            self._offers.forget(state)
        self._running[state.name] = state
        if state.first_scheduled is None:
            state.first_scheduled = self._clock()
        remaining = state.remaining
        self._plan(state, min(remaining, self._left, self.chunk_size), remaining)
        return True

    def _plan(self, state: RequestState, count: int, remaining: int) -> None:
        """Take pages for a request's next tokens, and the tokens from the budget.

        Raises OutOfPages before anything changes.
        """
        name, start = state.name, state.computed
        tokens = state.tokens(start, start + count)
        if self.pages is not None:
            self.pages.reserve(name, tokens)
        if self._charges:
            self.policy.charge(state, count)
        self._planned[name] = Chunk(state, tokens)
        self._left -= count
        if count < remaining:
            self._prefilling[name] = state
        elif self._prefilling:
            self._prefilling.pop(name, None)

    def _preempt(self, state: RequestState) -> None:
        """Put a running request into the queue again, without its pages, seat and planned tokens."""
        if self.pages is not None:
            self.pages.free_request(state.name)
        del self._running[state.name]
        self._prefilling.pop(state.name, None)
        if state.name in self._planned:
            count = len(self._planned.pop(state.name).tokens)
            self._left += count
            self.policy.charge(state, -count)
        state.computed = 0
        state.preemptions += 1
        self.preempted.append(state.name)
        self.policy.push(state)


def _differ(one: Request, other: Request) -> bool:
    """Return whether two requests could not share their text's keys and values."""
    texts = [[*request.prompt_ids, *request.answered] for request in (one, other)]
    return texts[0] != texts[1] or len(one.answered) != len(other.answered) or one.salt != other.salt
