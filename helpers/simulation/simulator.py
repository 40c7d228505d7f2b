"""The engine's own scheduler and page accounts on a virtual clock: hours of traffic in seconds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

from helpers.engine.offers import Admission
from helpers.engine.policy import Policy
from helpers.engine.request import Request, RequestState
from helpers.engine.scheduling import RequestScheduler
from helpers.simulation.paper_pages import PaperPages
from helpers.simulation.pass_time import Load, PassTime
from helpers.traffic.clock import VirtualClock
from helpers.traffic.outcome import Outcome
from helpers.traffic.report import Report

_ANSWER = 2**31  # paper token ids of answers begin here


class SimulatedEngine:
    """Simulate `ContinuousBatcher` without a model.

    `RequestScheduler` plans, `PagePool` counts, and a pass takes `pass_time` seconds. Quiet passes give each
    running request one token, and nothing is decided in them. Where `leap` allows it, quiet passes are
    computed together, which changes no time and no count.
    """

    def __init__(
        self,
        pass_time: PassTime,
        num_pages: int = 4096,
        page_size: int = 16,
        max_batch_size: int = 32,
        token_budget: int = 512,
        chunk_size: int | None = None,
        policy: str | Callable[[], Policy] = "fcfs",
        sharing: bool = True,
        leap: bool = True,
        admission: Admission | None = None,
    ):
        """Begin an idle engine at time 0; `policy` is a name, or a function that makes a policy.

        Raises ValueError as `RequestScheduler` and `PagePool` do.
        """
        self.clock, self.pages = VirtualClock(), PaperPages(num_pages, page_size, sharing)
        chosen = policy if isinstance(policy, str) else policy()
        self.scheduler = RequestScheduler(
            max_batch_size,
            chosen,
            token_budget,
            chunk_size,
            self.pages,
            clock=self.clock,
            admission=admission,
        )
        self.outcomes: list[Outcome] = []
        self.tokens_asked = 0
        """Tokens of the prompts and answers of all unfinished requests; answers count with `max_tokens`."""
        self._pass_time, self._leap = pass_time, leap
        self._answers: dict[Hashable, int] = {}  # the true lengths
        self._busy = self._row_seconds = 0.0
        self._passes = self._computed = 0
        self._decoding = False  # whether requests run, and each has just its latest token to compute

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._answers)

    @property
    def num_requests(self) -> int:
        """Number of unfinished requests."""
        return len(self._answers)

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that full cached pages hold."""
        return self.pages.offer(tokens, salt).num_cached

    def submit(self, request: Request, at: float, answer: int) -> None:
        """Add a request that comes at the time `at` and gets `answer` tokens, 1 to `max_tokens`.

        Tokens that the request brings (`answered`) are part of these.

        Raises ValueError for another length, and as `RequestScheduler.add_request` does.
        """
        least = len(request.answered) + 1
        if not least <= answer <= request.max_tokens:
            raise ValueError(
                f"request {request.request_id!r}: an answer of {answer} tokens, "
                f"allowed are {least} to {request.max_tokens}"
            )
        if not self.busy:
            self.clock.wait_until(at)
        with self.clock.back_at(at):
            request = self.scheduler.add_request(request).request  # its answer may have been cut
        self._answers[request.request_id] = min(answer, request.max_tokens)
        self.tokens_asked += len(request.prompt_ids) + request.max_tokens

    def run_until(self, moment: float, awaited: Collection[Hashable] = ()) -> list[RequestState]:
        """Run passes until a moment, until no request is left, or until a request in `awaited` is done.

        A pass that has begun is finished. Returns the requests in `awaited` that are done, often none.
        """
        while self.busy and self.clock.now < moment:
            ended = [state for state in self._pass(moment) if state.name in awaited]
            if ended:
                return ended
        return []

    def report(self, others: Iterable[Outcome] = ()) -> Report:
        """Return the report on all outcomes, with `others` that never reached the engine."""
        outcomes = [*self.outcomes, *others]
        return Report.summed(outcomes, self._busy, self._passes, self._computed, self._row_seconds)

    def _pass(self, moment: float) -> list[RequestState]:
        """Simulate quiet passes until `moment` or, if there is none, one pass; return the finished requests."""
        if self._decoding and (count := self._quiet(running := list(self.scheduler.running))) > 0:
            return self._quiet_passes(running, count, moment)
        planned = self.scheduler.schedule()
        if planned:
            load = Load.of([(len(tokens), state.computed) for state, tokens in planned])
            self._spend(self._pass_time(load), load)
        self.pages.commit()
        due, last, now, answers = 0, list[RequestState](), self.clock.now, self._answers
        for state, tokens in planned:
            count = len(tokens)
            state.computed += count
            state.tokens_computed += count
            ids = state.token_ids
            if state.num_prompt + len(ids) == state.computed:
                due += 1
                if len(ids) + 1 < answers[state.name]:
                    ids.append(_ANSWER + state.order)
                    state.token_times.append(now)
                else:
                    last.append(state)
        self._decoding = self._leap and due == len(self.scheduler.running) > len(last)
        return self._end(last)

    def _quiet_passes(self, running: Sequence[RequestState], count: int, moment: float) -> list[RequestState]:
        """Simulate up to `count` quiet passes, as many as begin before a moment; return the finished requests."""
        times, history, rows = list[float](), sum([state.computed for state in running]), len(running)
        while len(times) < count and self.clock.now < moment:
            load = Load(rows, rows, history, history + rows)
            self._spend(self._pass_time(load), load)
            times.append(self.clock.now)
            history += rows
        return self._catch_up(running, times)

    def _catch_up(self, running: Sequence[RequestState], times: list[float]) -> list[RequestState]:
        """Give each running request one token at each of these times; return the finished requests."""
        passes, answers, last = len(times), self._answers, list[RequestState]()
        for state in running if passes > 1 else ():
            state.token_ids += [_ANSWER + state.order] * (passes - 1)
        self.scheduler.decode(running, passes)
        self.pages.commit()
        for state in running:
            state.computed += passes
            state.tokens_computed += passes
            state.token_times += times
            if len(state.token_ids) + 1 < answers[state.name]:
                state.token_ids.append(_ANSWER + state.order)
            else:
                state.token_times.pop()
                last.append(state)
        self._decoding = len(running) > len(last)
        return self._end(last)

    def _quiet(self, running: Sequence[RequestState]) -> int:
        """Return the number of quiet passes to come.

        In these passes no request is admitted, is preempted, lacks a page, or is done before the last pass.
        """
        scheduler, answers = self.scheduler, self._answers
        if len(running) > scheduler.token_budget or scheduler.would_admit():
            return 0
        if scheduler.waiting and not scheduler.policy.static and len(running) < scheduler.max_batch_size:
            return 0
        left = min([answers[state.name] - len(state.token_ids) for state in running])
        if scheduler.waiting and scheduler.policy.preemptive:
            left = int(min(left, scheduler.policy.steady(list(running))))
        while left > 0 and not self._enough(running, left):
            left //= 2
        return left

    def _enough(self, running: Sequence[RequestState], passes: int) -> bool:
        """Return whether so many passes find their pages."""
        free, size = self.pages.free_pages, self.pages.page_size
        if len(running) * (passes // size + 1) <= free:
            return True
        lengths = (state.computed for state in running)
        return sum(-(-(n + passes) // size) - -(-n // size) for n in lengths) <= free

    def _spend(self, seconds: float, load: Load) -> None:
        """Move the clock on by a pass's time, and count the pass."""
        self.clock.advance(seconds)
        self._busy += seconds
        self._row_seconds += seconds * load.sequences
        self._passes += 1
        self._computed += load.tokens

    def _end(self, last: Sequence[RequestState]) -> list[RequestState]:
        """Give these requests their last tokens; return the requests, which are now finished."""
        for state in last:
            self.scheduler.took(state, _ANSWER + state.order, self.clock.now)
            if state.finish_reason is None:
                self.scheduler.finish(state, "stop")
            self._leave(state)
        return list(last)

    def _leave(self, state: RequestState) -> None:
        """Note the outcome of a request, and forget the request."""
        del self.scheduler.finished[state.name], self._answers[state.name]
        self.tokens_asked -= len(state.request.prompt_ids) + state.request.max_tokens
        self.outcomes.append(Outcome.of(state))
