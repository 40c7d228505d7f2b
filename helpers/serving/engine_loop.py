"""The engine behind an event loop: one thread steps the engine, and no coroutine waits for a pass.

Requests go in through a list, pieces of answers come out through `call_soon_threadsafe`. AsyncLLM in vLLM has
the same shape, with a process in place of the thread.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from weakref import WeakSet

from helpers.engine.batching import ContinuousBatcher
from helpers.engine.request import Request, RequestState
from helpers.serving.answers import Answers, Piece
from helpers.serving.errors import ApiError, BadRequest, Busy, Draining, EngineLost, RequestFailed


class Loop(Protocol):
    """Compute answers for the routes: one engine's loop, or several behind a router."""

    @property
    def alive(self) -> bool:
        """Return whether calls are taken."""

    @property
    def capacity(self) -> int:
        """The most answers that may be on their way."""

    @property
    def num_answers(self) -> int:
        """Return how many answers are waiting or being computed."""

    def submit(self, requests: Sequence[Request], samples: int = 1, admitted: bool = False) -> Answers:
        """Begin `samples` answers to each request; return them. Raises ApiError.

        Answers that another loop had `admitted` are taken although the queue is full.
        """

    def drain(self, seconds: float) -> None:
        """Take no more requests; those that are not answered after `seconds` end with an error."""

    def close(self, seconds: float = 0.0) -> None:
        """Drain, and end."""


class Observer:
    """Be told, in the engine's thread, what the engine does. This one does nothing with it."""

    def passed(self, engine: ContinuousBatcher) -> None:
        """Note that the engine has run a pass, or that requests came or left."""

    def took(self, state: RequestState, received: float) -> None:
        """Note that an answer has a new token; `received` is when its call came."""

    def ended(self, state: RequestState, received: float) -> None:
        """Note that a request ended, for any reason."""


@dataclass(slots=True)
class _Choice:
    """One answer that is being computed, and how many of its characters were delivered."""

    answers: Answers
    index: int
    sent: int = 0


class EngineLoop:
    """Serve calls from event loops with one engine, which needs a tokenizer and belongs to this object alone.

    `submit` returns the answers to a call; closing these cancels what is left of the call before the next
    pass. A request that fails ends its own call and no other. A policy or an observer that raises outside of
    a pass ends all calls, and the object takes no more. At most `max_batch_size + max_waiting` answers
    are on their way; above that `submit` raises Busy.
    """

    def __init__(self, engine: ContinuousBatcher, max_waiting: int = 64, observer: Observer | None = None):
        """Start the thread. Raises ValueError for a negative `max_waiting`."""
        if max_waiting < 0:
            raise ValueError(f"max_waiting must be 0 or more, got {max_waiting}")
        self.engine, self._observer = engine, observer or Observer()
        self.capacity = engine.scheduler.max_batch_size + max_waiting
        self._wake = threading.Condition()
        self._inbox: list[Callable[[], None]] = []  # what the thread does before its next pass
        self._choices: dict[Hashable, _Choice] = {}  # the thread's own
        self._calls: WeakSet[Answers] = WeakSet()  # every call that a reader may wait for
        self._on_the_way = 0  # answers that were submitted and have not ended
        self._closing = self._draining = False
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return whether the thread runs and takes requests."""
        return self._thread.is_alive() and not self._draining

    @property
    def num_answers(self) -> int:
        """Return how many answers are waiting or being computed."""
        return self._on_the_way

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that the engine's cache holds.

        Reads without waiting for the engine's thread: in the middle of a pass, the number may be out of date.
        """
        return self.engine.cache.offer(tokens, salt).num_cached

    def submit(self, requests: Sequence[Request], samples: int = 1, admitted: bool = False) -> Answers:
        """Begin `samples` answers to each request; return them, to be iterated over in this event loop.

        Sample `s` of request `r` is choice `r * samples + s`. Answers that another loop had `admitted` are
        taken although the queue is full. Raises Busy when the queue is full, Draining
        after `drain` or the thread's end, and BadRequest for more answers than could ever be taken. What the
        engine refuses is raised by the first piece.
        """
        count = len(requests) * samples
        if count > self.capacity and not admitted:
            raise BadRequest(f"{count} answers were asked for, and {self.capacity} are computed at most", "n")
        answers = Answers(count, time.perf_counter(), self._cancel)
        with self._wake:
            if self._closing or not self.alive:
                raise Draining("the server takes no more requests")
            if self._on_the_way + count > self.capacity and not admitted:
                raise Busy(f"{self._on_the_way} answers are on their way already, try again later")
            self._on_the_way += count
            self._calls.add(answers)
            self._post(partial(self._begin, answers, list(requests), samples))
        return answers

    def drain(self, seconds: float) -> None:
        """Take no more requests; those that are not answered after `seconds` end with Draining.

        Takes no lock, so that a signal handler may call it.
        """
        self._deadline = time.monotonic() + seconds
        self._draining = True

    def close(self, seconds: float = 0.0) -> None:
        """Drain, and end the thread; closing again changes nothing."""
        if not self._draining:
            self.drain(seconds)
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _cancel(self, answers: Answers) -> None:
        """Have the thread cancel what is left of a call."""
        self._post(partial(self._end, answers))

    def _post(self, action: Callable[[], None]) -> None:
        """Have the thread do something before its next pass."""
        with self._wake:
            self._inbox.append(action)
            self._wake.notify()

    # From here on: the engine's thread.

    def _work(self) -> None:
        """Step the engine until `close`; an error outside of a pass ends all calls and the thread."""
        try:
            while (inbox := self._next_inbox()) is not None:
                self._turn(inbox)
        except Exception as error:  # a policy or an observer may raise anything
            logging.getLogger(__name__).exception("the engine's thread ends")
            self._give_up(EngineLost(f"{type(error).__name__}: {error}"))

    def _turn(self, inbox: list[Callable[[], None]]) -> None:
        """Do what came since the last pass, run one pass, and deliver what the pass brought."""
        for action in inbox:
            action()
        pieces = self._pass() if self._choices else []
        self._observer.passed(self.engine)  # first: the reader of a piece may ask for the numbers
        self._deliver(pieces)

    def _give_up(self, error: ApiError) -> None:
        """Take no more requests, and end every open call with an error; the engine is not asked again."""
        with self._wake:
            self._draining = True  # under the lock: a later `submit` raises, an earlier one is in `_calls`
            self._inbox.clear()
            self._choices.clear()
            self._on_the_way, calls = 0, list(self._calls)
        for answers in calls:
            answers.names.clear()
            self._tell(answers, [(answers, error)])

    def _next_inbox(self) -> list[Callable[[], None]] | None:
        """Return what came since the last pass; sleep while there is nothing to do. None ends the thread."""
        with self._wake:
            while not self._inbox and not self._choices:
                if self._closing:
                    return None
                self._wake.wait()
            inbox, self._inbox = self._inbox, []
            return inbox

    def _begin(self, answers: Answers, requests: list[Request], samples: int) -> None:
        """Give a call's requests to the engine, all of them or none."""
        for place, request in enumerate(requests):
            try:
                names = self.engine.add_samples(request, samples)
            except ValueError as error:
                unborn = (len(requests) - place) * samples
                self._fail(answers, BadRequest(str(error)), unborn)
                return
            for sample, name in enumerate(names):
                self._choices[name] = _Choice(answers, place * samples + sample)
                answers.names.add(name)

    def _pass(self) -> list[tuple[Answers, Piece]]:
        """Run one pass; return the pieces that it brought."""
        if time.monotonic() > self._deadline:
            self._fail_all(Draining("the server is shutting down, and this answer was not ready in time"))
            return []
        try:
            chosen = self.engine.process_batch()
        except Exception as error:  # a policy that raises: without a plan no request can go on
            self._fail_all(RequestFailed(f"{type(error).__name__}: {error}"))
            return []
        states = {state.name: state for state in self.engine.running} | self.engine.finished
        pieces = [self._piece(states[name]) for name, _ in chosen]
        for name, state in list(self.engine.finished.items()):
            if name in self._choices:
                self._ended(state)
        return pieces

    def _piece(self, state: RequestState) -> tuple[Answers, Piece]:
        """Return what an answer's newest token adds to the answer."""
        choice = self._choices[state.name]
        self._observer.took(state, choice.answers.received)
        text = state.answer.text if state.answer is not None else ""
        new, choice.sent = text[choice.sent :], len(text)
        logprobs = state.logprobs[-1] if state.request.logprobs is not None else None
        reason = state.finish_reason
        if reason != "stop" and reason != "length":
            return choice.answers, Piece(choice.index, new, logprobs, token_id=state.token_ids[-1])
        first = not (isinstance(state.name, tuple) and state.name[-1])
        cached = state.cached_tokens if first else 0
        return choice.answers, Piece(choice.index, new, logprobs, reason, cached, state.token_ids[-1])

    def _ended(self, state: RequestState) -> None:
        """Forget a finished request; one that failed ends its whole call."""
        answers = self._choices[state.name].answers
        self._forget(state.name)
        if state.finish_reason == "failed":
            self._fail(answers, RequestFailed(state.error))

    def _forget(self, name: Hashable) -> None:
        """Take a finished request out of engine and accounts."""
        state = self.engine.pop(name)
        answers = self._choices.pop(name).answers
        answers.names.discard(name)
        self._observer.ended(state, answers.received)
        with self._wake:
            self._on_the_way -= 1

    def _end(self, answers: Answers) -> None:
        """Cancel what is left of a call; pages are free at once."""
        for name in list(answers.names):
            if name not in self.engine.finished:
                self.engine.cancel(name)
            self._forget(name)

    def _fail(self, answers: Answers, error: ApiError, unborn: int = 0) -> None:
        """End a call with an error; `unborn` of its answers never reached the engine."""
        self._end(answers)
        with self._wake:
            self._on_the_way -= unborn
        self._tell(answers, [(answers, error)])

    def _fail_all(self, error: ApiError) -> None:
        """End all calls with an error."""
        for answers in {id(choice.answers): choice.answers for choice in self._choices.values()}.values():
            self._fail(answers, error)

    def _deliver(self, pieces: list[tuple[Answers, Piece]]) -> None:
        """Bring a pass's pieces to their event loops, with one call for each loop."""
        loops = {answers.loop: answers for answers, _ in pieces}
        for loop, answers in loops.items():
            self._tell(answers, [item for item in pieces if item[0].loop is loop])

    def _tell(self, answers: Answers, items: Sequence[tuple[Answers, Piece | ApiError]]) -> None:
        """Deliver in the event loop of `answers`; where that loop has ended, cancel what it waited for."""
        try:
            answers.loop.call_soon_threadsafe(_deliver_all, items)
        except RuntimeError:
            for other, _ in items:
                self._end(other)


def _deliver_all(items: Sequence[tuple[Answers, Piece | ApiError]]) -> None:
    """Give each call its piece."""
    for answers, piece in items:
        answers.deliver(piece)
