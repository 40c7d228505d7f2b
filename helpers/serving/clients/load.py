"""Load: many calls to one server, at the moments of a trace or by a fixed number of clients.

At a fixed rate (an *open loop*) calls come whether or not the server follows. A fixed number of clients (a
*closed loop*) asks again only when answered, so that a slow server gets fewer calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from helpers.serving.clients.calls import Heard, a_client, completion, hear, in_own_loop
from helpers.traffic.report import Report
from helpers.traffic.trace import Trace


def open_loop(url: str, trace: Trace, vocab_size: int, **options: Any) -> Report:
    """Return the report of a trace whose requests are sent at their moments; times as the clients saw them.

    Prompts are seeded tokens of the vocabulary, answers have exactly `new_tokens` tokens, and `options` are
    further fields of each body. A request that follows another one is sent when that one is answered, not
    earlier. Its prompt is the earlier prompt, as many seeded tokens as the answer had (a client is told an
    answer's text, not its tokens), and its own tokens: `as_sent` is that trace for a simulator. Times count
    from the moment when a call was due, so that a late client hides no wait. Raises ValueError for a request
    that asks for no token.
    """
    if any(arrival.new_tokens < 1 for arrival in trace):
        raise ValueError("each request must ask for 1 token or more")
    return in_own_loop(_Open(url, trace, vocab_size, options).run())


def as_sent(trace: Trace) -> Trace:
    """Return a trace whose texts are those that `open_loop` sends, for a simulation beside the measured run.

    A request that follows another one finds the earlier prompt in a cache, not the earlier answer.
    """
    return _AsSent(trace.arrivals, trace.name, trace.seed)


def closed_loop(url: str, bodies: Iterable[Mapping[str, Any]], clients: int) -> Report:
    """Return the report of calls by so many clients, each of which has one call on its way at a time.

    Raises ValueError for less than one client.
    """
    if clients < 1:
        raise ValueError(f"clients must be 1 or more, got {clients}")
    return in_own_loop(_closed(url, list(bodies), clients))


def at_once(
    url: str, bodies: Iterable[Mapping[str, Any]], leave_after: Sequence[int | None] = ()
) -> list[Heard]:
    """Return what calls heard that were sent at the same time, in the order of `bodies`.

    The client of call i leaves after `leave_after[i]` events; clients beyond that list stay to the end.
    """
    asked = list(bodies)
    leaves = [*leave_after, *[None] * (len(asked) - len(leave_after))]
    return in_own_loop(_at_once(url, asked, leaves))


class _AsSent(Trace):
    """A trace whose followers know no answer."""

    def prompt(self, place: int, vocab_size: int | None = None, before: Sequence[int] = ()) -> list[int]:
        """Return the prompt: of the text before, only what was a prompt itself; the rest are own tokens."""
        follows = self[place].follows
        known = before if follows is None else before[: self[follows].prompt_tokens]
        return super().prompt(place, vocab_size, known)


class _Open:
    """Send one trace."""

    def __init__(self, url: str, trace: Trace, vocab_size: int, options: Mapping[str, Any]):
        """Prepare a trace; nothing is sent yet."""
        self._url, self._trace, self._vocab, self._options = url, trace, vocab_size, options
        self._texts: dict[int, list[int]] = {}  # prompt and stand-in of the answer, by place
        self._done: list[asyncio.Event] = []

    async def run(self) -> Report:
        """Send all calls, wait for their ends, and return the report."""
        self._done = [asyncio.Event() for _ in self._trace]
        async with a_client() as http:
            begin = time.perf_counter()
            heard = await asyncio.gather(
                *(self._send(http, place, begin) for place in range(len(self._trace)))
            )
        names = [arrival.client for arrival in self._trace]
        return _report(heard, names)

    async def _send(self, http: httpx.AsyncClient, place: int, begin: float) -> Heard:
        """Send one call when it is due."""
        arrival, due = self._trace[place], begin + self._trace[place].at
        if arrival.follows is not None:
            await self._done[arrival.follows].wait()
            due = max(due, time.perf_counter())
        before = self._texts[arrival.follows] if arrival.follows is not None else ()
        prompt = self._trace.prompt(place, self._vocab, before)
        stand_in = [prompt[i % len(prompt)] for i in range(arrival.new_tokens)]
        self._texts[place] = prompt + stand_in
        await asyncio.sleep(due - time.perf_counter())
        try:
            body = completion(prompt, arrival.new_tokens, **self._options)
            return await hear(http, self._url, body, due=due)
        finally:
            self._done[place].set()


async def _at_once(
    url: str, bodies: Sequence[Mapping[str, Any]], leaves: Sequence[int | None]
) -> list[Heard]:
    """Send all calls, and return what they heard."""
    async with a_client() as http:
        calls = (hear(http, url, body, leave) for body, leave in zip(bodies, leaves, strict=True))
        return list(await asyncio.gather(*calls))


async def _closed(url: str, bodies: Sequence[Mapping[str, Any]], clients: int) -> Report:
    """Have so many clients take one body after the other from a common list."""
    left = iter(enumerate(bodies))
    heard: list[Heard | None] = [None] * len(bodies)

    async def ask(http: httpx.AsyncClient, left: Iterator[tuple[int, Mapping[str, Any]]]) -> None:
        for place, body in left:
            heard[place] = await hear(http, url, body)

    async with a_client() as http:
        await asyncio.gather(*(ask(http, left) for _ in range(clients)))
    return _report([one for one in heard if one is not None], [None] * len(bodies))


def _report(heard: Sequence[Heard], clients: Sequence[str | None]) -> Report:
    """Return the report of calls. What only an engine knows (passes, preemptions) is 0."""
    outcomes = [one.outcome(place, clients[place]) for place, one in enumerate(heard)]
    return Report.summed(outcomes, 0.0, 0, 0, 0.0)
