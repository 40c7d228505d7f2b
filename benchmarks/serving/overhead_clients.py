"""Two clients that read the same streams, in a process of their own: one is comfortable, one costs little.

A client shares the cores with the server that it measures. So each says how much CPU time its own reading took.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

PATH = "/v1/completions"
PROMPTS = [f"Story number {i}: once upon a time there was a" for i in range(64)]


@dataclass(frozen=True)
class Seen:
    """What a client saw, in seconds."""

    seconds: float
    """From the first call to the last byte of all streams."""
    ttft: float
    """The median time to the first event."""
    gap: float
    """The median time between two events of a stream."""
    cpu: float
    """CPU time of the client's process."""


def with_httpx(url: str, streams: int, tokens: int) -> Seen:
    """Return what a client sees that reads line by line with httpx, as programs do."""
    return asyncio.run(_with_httpx(url, streams, tokens))


def with_sockets(url: str, streams: int, tokens: int) -> Seen:
    """Return what a client sees that keeps the bytes of its sockets, and looks into them after the end."""
    address = urlsplit(url)
    begin, used = time.perf_counter(), time.process_time()
    readers = {_ask(address.hostname, address.port, i, tokens): _Bytes() for i in range(streams)}
    with selectors.DefaultSelector() as waiting:
        for wire in readers:
            waiting.register(wire, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                if not readers[key.fileobj].read(key.fileobj):
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()
    whole, cpu = time.perf_counter() - begin, time.process_time() - used
    for i, reader in enumerate(readers.values()):
        lines = b"".join(reader.pieces).decode().splitlines()
        _check(i, [line for line in lines if line.startswith("data: {")][-1:], tokens)
    return _seen(begin, whole, cpu, [reader.moments for reader in readers.values()])


CLIENTS: dict[str, Callable[[str, int, int], Seen]] = {"httpx": with_httpx, "sockets": with_sockets}


class _Bytes:
    """The bytes of one stream, and when they came."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.moments: list[float] = []

    def read(self, wire: socket.socket) -> bool:
        """Take what has come; return whether the stream goes on. The answer's head is no event."""
        piece = wire.recv(65536)
        self.pieces.append(piece)
        if b"data: {" in piece:
            self.moments.append(time.perf_counter())
        return bool(piece)


def _ask(host: str, port: int, i: int, tokens: int) -> socket.socket:
    """Return a socket on which stream `i` was asked for."""
    wire = socket.create_connection((host, port), timeout=600)
    body = json.dumps(_body(i, tokens)).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    wire.sendall(head.encode() + body)
    return wire


async def _with_httpx(url: str, streams: int, tokens: int) -> Seen:
    """Read all streams at the same time."""
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=streams)) as http:
        begin, used = time.perf_counter(), time.process_time()
        moments = await asyncio.gather(*(_stream(http, url, i, tokens) for i in range(streams)))
        return _seen(begin, time.perf_counter() - begin, time.process_time() - used, moments)


async def _stream(http: httpx.AsyncClient, url: str, i: int, tokens: int) -> list[float]:
    """Return when each event of one stream came."""
    times, last = [], ""
    async with http.stream("POST", url + PATH, json=_body(i, tokens)) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                times.append(time.perf_counter())
                last = line
    _check(i, [last], tokens)
    return times


def _body(i: int, tokens: int) -> dict[str, object]:
    """Return what stream `i` asks for: an answer of a forced length to a prompt that no cache holds."""
    return {
        "prompt": PROMPTS[i % len(PROMPTS)], "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True}, "cache_salt": str(time.perf_counter()),
    }  # fmt: skip


def _check(i: int, last: Sequence[str], tokens: int) -> None:
    """Raise RuntimeError when a stream's last event does not count the tokens that were asked for."""
    usage = json.loads(last[0].removeprefix("data: ")).get("usage") if last and last[0] else None
    if usage is None or usage["completion_tokens"] != tokens:
        raise RuntimeError(f"stream {i} ended early: {str(last)[:200]}")


def _seen(begin: float, whole: float, cpu: float, moments: Sequence[Sequence[float]]) -> Seen:
    """Return the record of some streams."""
    gaps = [b - a for one in moments for a, b in itertools.pairwise(one)]
    return Seen(whole, statistics.median(one[0] - begin for one in moments), statistics.median(gaps), cpu)
