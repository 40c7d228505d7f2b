"""The server beside its bare engine, 16 streams.

SmolLM2-135M, greedy, answers of a forced length. The bare engine serves the same requests by `run()`; the server
serves them as streams that a client in another process reads. The two take turns. Bar: the server's throughput is
at least 95 % of the engine's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import statistics
import threading
import time
from typing import Any

import httpx

from benchmarks.record import write
from helpers.engine import ContinuousBatcher, Request
from helpers.model import Checkpoint, checkpoint
from helpers.serving import Server, Service, bind, make_service

PROMPTS = [f"Story number {i}: once upon a time there was a" for i in range(64)]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    for name, default in (("streams", 16), ("tokens", 64), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)


def main(options: argparse.Namespace) -> None:
    """Measure, print, and write results/serving.json."""
    loaded = checkpoint.load(device="cpu")
    service = make_service(loaded.model, loaded.tokenizer, "model", max_batch_size=options.streams)
    taken = bind("127.0.0.1", 0)
    server = Server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    context, url = multiprocessing.get_context("spawn"), f"http://127.0.0.1:{taken.getsockname()[1]}"
    samples: dict[str, list[Any]] = {"engine": [], "server": [], "ttft": [], "gaps": []}
    with context.Pool(1) as pool:
        try:
            pool.apply(client, (url, options.streams, 2))  # warm: imports, and the first passes
            bare(loaded, service, options.streams, 2)
            for _ in range(options.repeats):
                samples["engine"].append(bare(loaded, service, options.streams, options.tokens))
                measured = pool.apply(client, (url, options.streams, options.tokens))
                for name, value in zip(("server", "ttft", "gaps"), measured, strict=True):
                    samples[name].append(value)
        finally:
            server.handle_exit(15, None)
            thread.join()
    engine, served = (statistics.median(samples[name]) for name in ("engine", "server"))
    tokens = options.streams * options.tokens
    sizes = {name: getattr(options, name) for name in ("streams", "tokens", "repeats")}
    share = engine / served
    print(f"engine {tokens / engine:.1f} tokens/s, server {tokens / served:.1f} tokens/s: {share:.1%}")
    print(write("serving", {"options": sizes, "samples": samples, "share": share}))


def bare(loaded: Checkpoint, service: Service, streams: int, tokens: int) -> float:
    """Return the seconds that the bare engine takes for as many requests, from fresh pages."""
    cache = type(service.loop.engine.cache).for_model(loaded.model, 512)
    engine = ContinuousBatcher(loaded.model, cache, streams, log=1, tokenizer=loaded.tokenizer)
    for i in range(streams):
        prompt = loaded.tokenizer(PROMPTS[i % len(PROMPTS)])["input_ids"]
        engine.add_request(Request(i, prompt, tokens, ignore_eos=True, salt=time.perf_counter()))
    begin = time.perf_counter()
    engine.run()
    return time.perf_counter() - begin


def client(url: str, streams: int, tokens: int) -> tuple[float, float, float]:
    """Return the seconds for all streams, the median time to first token, and the median gap between events."""
    return asyncio.run(_client(url, streams, tokens))


async def _client(url: str, streams: int, tokens: int) -> tuple[float, float, float]:
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=streams)) as http:
        begin = time.perf_counter()
        times = await asyncio.gather(*(_stream(http, url, i, tokens) for i in range(streams)))
        whole = time.perf_counter() - begin
    gaps = [b - a for one in times for a, b in itertools.pairwise(one)]
    return whole, statistics.median(one[0] - begin for one in times), statistics.median(gaps)


async def _stream(http: httpx.AsyncClient, url: str, i: int, tokens: int) -> list[float]:
    """Return when each event of one stream came; the counts of the last one must be right."""
    body = {
        "prompt": PROMPTS[i % len(PROMPTS)], "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True}, "cache_salt": str(time.perf_counter()),
    }  # fmt: skip
    times, last = [], ""
    async with http.stream("POST", url + "/v1/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                times.append(time.perf_counter())
                last = line
    if json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"] != tokens:
        raise RuntimeError(f"stream {i} ended early: {last[:200]}")
    return times
