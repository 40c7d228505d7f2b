"""The server beside its bare engine, 16 streams.

SmolLM2-135M, greedy, answers of a forced length. The bare engine serves the same requests by `run()`; the server
serves them as streams that a client in another process reads. They take turns. Bar: the server's throughput is
at least 95 % of the engine's.

The client computes on the same cores, so there are two: one reads with httpx, as programs do, and one keeps bytes and
costs little. Printed beside the throughput is where CPU time went, per token: handing tokens over in the engine's
thread, the event loop, the client. (Linux tells the time of a thread; elsewhere these are not numbers.)
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import threading
import time
from dataclasses import asdict
from typing import Any

from benchmarks.record import write
from benchmarks.serving.overhead_clients import CLIENTS, PROMPTS
from helpers.engine import ContinuousBatcher, Request
from helpers.model import Checkpoint, checkpoint
from helpers.serving import Server, Service, bind, make_service


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    for name, default in (("streams", 16), ("tokens", 64), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)


def main(options: argparse.Namespace) -> None:
    """Measure, print, and write results/serving.json."""
    loaded = checkpoint.load(device="cpu")
    service = make_service(loaded.model, loaded.tokenizer, "model", max_batch_size=options.streams)
    spent = Spent(service)
    taken = bind("127.0.0.1", 0)
    server = Server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    context, url = multiprocessing.get_context("spawn"), f"http://127.0.0.1:{taken.getsockname()[1]}"
    tokens = options.streams * options.tokens
    engine: list[float] = []
    served: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    with context.Pool(1) as pool:
        try:
            bare(loaded, service, options.streams, 2)
            for client in CLIENTS.values():
                pool.apply(client, (url, options.streams, 2))  # warm: imports, and the first passes
            for _ in range(options.repeats):
                engine.append(bare(loaded, service, options.streams, options.tokens))
                for name, client in CLIENTS.items():
                    before = spent.now(thread)
                    seen = asdict(pool.apply(client, (url, options.streams, options.tokens)))
                    own = {part: spent.now(thread)[part] - before[part] for part in before}
                    served[name].append({**seen, **own})
        finally:
            server.handle_exit(15, None)
            thread.join()
    print(f"engine alone: {tokens / statistics.median(engine):.1f} tokens/s")
    found = {name: summed(name, samples, tokens, engine) for name, samples in served.items()}
    sizes = {name: getattr(options, name) for name in ("streams", "tokens", "repeats")}
    print(write("serving", {"options": sizes, "samples": {"engine": engine, **served}, "found": found}))


class Spent:
    """The CPU time of a server's threads, in seconds."""

    def __init__(self, service: Service):
        """Count from now on what passes take, to leave it out of the engine's thread."""
        self._engine = next(one for one in threading.enumerate() if one.name == "engine")
        self._passes, self._process = 0.0, service.loop.engine.process_batch
        service.loop.engine.process_batch = self._timed

    def now(self, event_loop: threading.Thread) -> dict[str, float]:
        """Return what handing over and the event loop have taken so far."""
        return {"handing over": _cpu(self._engine) - self._passes, "event loop": _cpu(event_loop)}

    def _timed(self) -> Any:
        """Run a pass."""
        begin = time.thread_time()
        try:
            return self._process()
        finally:
            self._passes += time.thread_time() - begin


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


def summed(name: str, samples: list[dict[str, float]], tokens: int, engine: list[float]) -> dict[str, float]:
    """Print and return a client's medians: tokens a second, their share of the engine's, microseconds a token.

    A share compares neighbours in time, because a machine's speed changes within a minute.
    """
    middle = {part: statistics.median(one[part] for one in samples) for part in samples[0]}
    spent = {part: middle[part] / tokens * 1e6 for part in ("handing over", "event loop", "cpu")}
    share = statistics.median(alone / one["seconds"] for alone, one in zip(engine, samples, strict=True))
    print(
        f"server, read with {name}: {tokens / middle['seconds']:.1f} tokens/s, {share:.1%}; CPU per token: "
        f"handing over {spent['handing over']:.1f} us, event loop {spent['event loop']:.1f} us, "
        f"client {spent['cpu']:.1f} us"
    )
    return {"tokens/s": tokens / middle["seconds"], "share": share, **spent}


def _cpu(thread: threading.Thread) -> float:
    """Return the CPU time of a running thread, where the system tells it."""
    if thread.ident is None or not hasattr(time, "pthread_getcpuclockid"):
        return math.nan
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
