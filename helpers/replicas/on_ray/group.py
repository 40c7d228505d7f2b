"""Engines in actors of Ray Serve, in place of one engine loop."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.serve.handle import DeploymentHandle

from helpers.engine.request import Request
from helpers.replicas.relay import Relay
from helpers.replicas.replica import Share
from helpers.replicas.watched_answers import WatchedAnswers
from helpers.serving.answers import Answers, Piece
from helpers.serving.errors import ApiError, BadRequest, Busy, Draining, EngineLost, RequestFailed
from helpers.serving.metrics import ServerMetrics


class Stream(AsyncIterator[Piece]):
    """Read the pieces that an actor yields. Raises EngineLost when the actor dies."""

    def __init__(self, responses: Any, deadline: Deadline):
        """Take what a handle with `stream=True` returned."""
        self._responses, self._deadline = responses, deadline

    async def __anext__(self) -> Piece:
        """Return the next piece. Raises ApiError when the actor could not go on."""
        if time.monotonic() > self._deadline.at:
            raise Draining("the server is shutting down, and this answer was not ready in time")
        try:
            item = await anext(self._responses)
        except (ActorDiedError, ActorUnavailableError) as error:
            raise EngineLost(f"a replica died: {type(error).__name__}") from error
        except RayError as error:
            raise RequestFailed(f"{type(error).__name__}: {error}") from error
        if isinstance(item, ApiError):
            raise item
        piece: Piece = item
        return piece

    def close(self) -> None:
        """Have the actor cancel what is left."""
        self._responses.cancel()


class Deadline:
    """Hold the moment at which open answers end."""

    at = math.inf


class RayGroup:
    """Serve calls with the engines of a deployment; the deployment's request router chooses among them.

    When a replica dies, its answers go on at the others, or at its successor. At most `capacity` answers are
    on their way; above that `submit` raises Busy.
    """

    def __init__(
        self,
        handle: DeploymentHandle,
        capacity: int,
        metrics: ServerMetrics | None = None,
        stop: Callable[[], None] = lambda: None,
        most_deaths: int = 3,
    ):
        """Take a handle to the deployment of `EngineActor`; `close` calls `stop` once.

        `metrics` counts what clients see. `most_deaths` is that of `Relay`.
        """
        self._handle, self.capacity, self._most_deaths = handle.options(stream=True), capacity, most_deaths
        self._metrics, self._stop = metrics or ServerMetrics("unnamed"), stop
        self.num_answers = self.tokens_asked = 0
        self._draining, self._deadline = False, Deadline()

    @property
    def alive(self) -> bool:
        """Return whether calls are taken; Ray keeps them while no replica is up."""
        return not self._draining

    def submit(self, requests: Sequence[Request], samples: int = 1, admitted: bool = False) -> Answers:
        """Begin `samples` answers to each request; return them, as `EngineLoop.submit` does."""
        count = len(requests) * samples
        if self._draining:
            raise Draining("the server takes no more requests")
        if count > self.capacity and not admitted:
            raise BadRequest(f"{count} answers were asked for, and {self.capacity} are computed at most", "n")
        if self.num_answers + count > self.capacity and not admitted:
            raise Busy(f"{self.num_answers} answers are on their way already, try again later")
        answers = WatchedAnswers(requests, samples, lambda _: relay.cancel(), self._metrics)
        relay = Relay(answers, self._begin, self._most_deaths)
        for place, request in enumerate(requests):
            relay.start(request, samples, place * samples)
        return answers

    def drain(self, seconds: float) -> None:
        """Take no more requests; those that are not answered after `seconds` end with Draining."""
        self._deadline.at = time.monotonic() + seconds
        self._draining = True

    def close(self, seconds: float = 0.0) -> None:
        """Drain, and end what `stop` ends; closing again changes nothing."""
        if not self._draining:
            self.drain(seconds)
        stop, self._stop = self._stop, lambda: None
        stop()

    def _begin(self, request: Request, samples: int, admitted: bool) -> Share:
        """Send a request to the deployment."""
        stream = Stream(self._handle.generate.remote(request, samples), self._deadline)
        return Share(stream, len(request.prompt_ids) + request.max_tokens, self._add).begin(samples)

    def _add(self, requests: int, tokens: int) -> None:
        """Change the load."""
        self.num_answers += requests
        self.tokens_asked += tokens
        self._metrics.gauge("num_requests_running", self.num_answers)
