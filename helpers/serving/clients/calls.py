"""One call to a server, as its client hears the answer: each event with its moment."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import httpx

from helpers.engine.request import FinishReason
from helpers.serving.clients.event_parser import EventParser
from helpers.traffic.outcome import Outcome

PATH = "/v1/completions"
T = TypeVar("T")


@dataclass(slots=True)
class Heard:
    """Record what a client heard of one call. Moments are in seconds of `time.perf_counter`."""

    begun: float
    """When the call was due."""
    ended: float = 0.0
    status: int = 0
    """The status of HTTP; 0 when the connection failed."""
    text: str = ""
    moments: list[float] = field(default_factory=list)
    """When each event of the answer came. A token without text of its own, such as half a character, has none."""
    prompt_tokens: int = 0
    new_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str | None = None
    retry_after: int | None = None
    """Seconds after which a refused call should come again, as the server said."""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Return whether the answer came to its own end."""
        return self.status == 200 and self.finish_reason is not None and not self.error

    @property
    def seconds(self) -> float:
        """Return the seconds from the moment when the call was due to its end."""
        return self.ended - self.begun

    def outcome(self, name: Hashable, client: Hashable = None) -> Outcome:
        """Return the call as an outcome, so that `Report` sums measured calls up as simulated ones."""
        ended: FinishReason = "stop" if self.finish_reason == "stop" else "length"
        first, last = (self.moments[0], self.moments[-1]) if self.moments else (None, None)
        gap = max((b - a for a, b in pairwise(self.moments)), default=0.0)
        return Outcome(
            name, client, 0, self.prompt_tokens, self.new_tokens, self.begun, self.ended,
            ended if self.ok else "failed", first, first, last, gap, 0, self.cached_tokens,
        )  # fmt: skip

    def take(self, data: str) -> None:
        """Note the data of one event. Raises ValueError when it is no JSON object of this kind."""
        if data == "[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            self.error = str(event["error"].get("message", ""))
        for choice in event.get("choices", ()):
            self.moments.append(time.perf_counter())
            self.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if usage := event.get("usage"):
            self.prompt_tokens, self.new_tokens = usage["prompt_tokens"], usage["completion_tokens"]
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


def completion(prompt: str | Sequence[int], max_tokens: int, **options: Any) -> dict[str, Any]:
    """Return the body of a greedy completion of exactly `max_tokens` tokens; `options` replace or add fields."""
    return {
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, **options,
    }  # fmt: skip


def call(url: str, body: Mapping[str, Any], leave_after: int | None = None, path: str = PATH) -> Heard:
    """Return what one streamed call heard. Waits for the end; see `hear`."""
    return in_own_loop(_call(url, body, leave_after, path))


async def hear(
    http: httpx.AsyncClient,
    url: str,
    body: Mapping[str, Any],
    leave_after: int | None = None,
    path: str = PATH,
    due: float | None = None,
) -> Heard:
    """Return what one streamed call heard.

    The client leaves after so many events, if told so. `due` is when the call should have been sent (default:
    now). A refusal and a broken connection are part of the record, not an error.
    """
    heard = Heard(time.perf_counter() if due is None else due)
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    try:
        async with http.stream("POST", url + path, json=asked) as response:
            await _read(heard, response, leave_after)
    except httpx.HTTPError as error:
        heard.error = f"{type(error).__name__}: {error}"
    heard.ended = time.perf_counter()
    return heard


def a_client() -> httpx.AsyncClient:
    """Return a client without a limit on connections, which reads no certificates."""
    return httpx.AsyncClient(verify=False, timeout=600, limits=httpx.Limits(), trust_env=False)


def in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, run in a thread of its own: a notebook's own event loop runs already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _call(url: str, body: Mapping[str, Any], leave_after: int | None, path: str) -> Heard:
    """Return what one call heard, by a client of its own."""
    async with a_client() as http:
        return await hear(http, url, body, leave_after, path)


async def _read(heard: Heard, response: httpx.Response, leave_after: int | None) -> None:
    """Read a response into a record, until its end or until the client leaves."""
    heard.status = response.status_code
    if heard.status != 200:
        retry = response.headers.get("Retry-After", "")
        heard.retry_after = int(retry) if retry.isdigit() else None
        heard.error = (await response.aread()).decode("utf-8", "replace")
        return
    parser = EventParser()
    async for piece in response.aiter_bytes():
        for data in parser.feed(piece):
            heard.take(data)
            if leave_after is not None and len(heard.moments) >= leave_after:
                return
