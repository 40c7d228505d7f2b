"""Stories that lab 8 tells with an answer: a stream at one seat, lengths that are learnt, a rush of two kinds of clients."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from helpers.display.tables import Table
from helpers.engine.policies import ShortestJobFirst
from helpers.engine.policy import Policy
from helpers.engine.request import Request, RequestState
from helpers.simulation.pass_time import Load
from helpers.simulation.replicas import simulate
from helpers.simulation.simulator import SimulatedEngine
from helpers.traffic.lengths import Lengths, Mix
from helpers.traffic.report import Report
from helpers.traffic.trace import Arrival, Trace
from helpers.traffic.workload import poisson, with_caps

Job = dict[str, Any]
PROMISES = {"chat": 2.0, "document": 10.0}
"""Seconds to the first token within which the clients of exercise 5 want to be answered."""
SHARE = 0.95
"""The share of each kind for which the promise must hold."""


def one_seat(
    first: Callable[[list[Job], float, float], str], jobs: Sequence[Job], ageing: float
) -> dict[str, float]:
    """Return the wait in seconds of each job (name, priority, arrived, seconds); they are served one by one,
    as `first` says.
    """
    coming, waiting, waits, now = (
        sorted(jobs, key=lambda job: job["arrived"]),
        list[Job](),
        dict[str, float](),
        0.0,
    )
    while coming or waiting:
        if not waiting:
            now = max(now, coming[0]["arrived"])
        while coming and coming[0]["arrived"] <= now:
            waiting.append(coming.pop(0))
        chosen = first([{k: job[k] for k in ("name", "priority", "arrived")} for job in waiting], now, ageing)
        job = next(job for job in waiting if job["name"] == chosen)
        waiting.remove(job)
        waits[chosen] = now - job["arrived"]
        now += job["seconds"]
    return waits


class Learning(ShortestJobFirst):
    """Shortest job first by a learner's prediction from the answers that have ended so far."""

    def __init__(
        self, passes: Callable[[Job, list[Job], int], float], ageing: float | None = None, budget: int = 512
    ):
        """Keep `passes(request, ended, budget)`, as in exercise 3."""
        super().__init__(self._predict, ageing)
        self._passes, self._budget, self._ended = passes, budget, list[Job]()

    def leave(self, state: RequestState) -> None:
        """Note how long the answer was."""
        super().leave(state)
        self._ended.append({**_described(state.request), "answer": len(state.token_ids)})

    def _predict(self, request: Request) -> float:
        """Return what the learner's function says."""
        return self._passes(_described(request), list(self._ended), self._budget)


def _described(request: Request) -> Job:
    """Return a request as the exercises show it."""
    return {"client": request.client, "prompt": len(request.prompt_ids), "cap": request.max_tokens}


def letters(seed: int = 0) -> Trace:
    """Return traffic of four clients who ask for answers of very different lengths, and all allow 512 tokens."""
    kinds = {"title": (8, 4.0), "summary": (40, 2.0), "letter": (160, 0.8), "report": (400, 0.4)}
    arrivals = [
        arrival
        for i, (client, (answer, rate)) in enumerate(kinds.items())
        for arrival in poisson(
            int(40 * rate),
            rate,
            Mix(Lengths(300, 0.6, 50, 1500), Lengths(answer, 0.2, 4, 512), (client,)),
            seed + i,
        )
    ]
    return with_caps(Trace(sorted(arrivals, key=lambda a: a.at), "letters", seed), Lengths(512), seed)


def serve(trace: Trace, policy: Callable[[], Policy], seats: int = 4) -> Report:
    """Return the simulated run of an engine with a few seats whose pass takes 20 ms, and 20 µs more for each
    token.
    """
    engine = SimulatedEngine(_pass_time, max_batch_size=seats, token_budget=1024, policy=policy)
    return simulate(trace, engine)


def rush(every: float, document_every: float, seed: int, unusual: float = 0.0) -> Trace:
    """Return half a minute: 24 seconds of chats that fill the engine alone, documents among them, and calm afterwards.

    `unusual` is the share of chats with a long text pasted in, and of documents that are short.
    """
    rng = random.Random(seed)
    arrivals, at = [], 0.0
    while at < 30:
        prompt = rng.randrange(20, 200)
        prompt = rng.randrange(600, 1200) if unusual and rng.random() < unusual else prompt
        arrivals.append(Arrival(at, prompt, rng.randrange(20, 60), 200, "chat"))
        at += every * (1 if at < 24 else 2) * rng.uniform(0.7, 1.3)
    at = 1.0
    while at < 24:
        prompt = rng.randrange(1000, 3000)
        prompt = rng.randrange(100, 400) if unusual and rng.random() < unusual else prompt
        arrivals.append(Arrival(at, prompt, rng.randrange(30, 90), 200, "document", priority=1))
        at += document_every
    return Trace(sorted(arrivals, key=lambda arrival: arrival.at), "rush", seed)


RUSHES = (rush(0.21, 4, seed=4), rush(0.215, 3, seed=1), rush(0.21, 2, seed=2, unusual=0.3))
"""Those that exercise 5 is checked with; in the last one some chats are long, and some documents short."""


def kept(report: Report) -> dict[str, float]:
    """Return, for each kind of client, the share for which the promise held."""
    shares = {}
    for client, promise in PROMISES.items():
        values = report.of_client(client).values("ttft")
        shares[client] = sum(value <= promise for value in values) / len(values)
    return shares


def promises(**policies: Callable[[], Policy]) -> Table:
    """Return, for each policy, the promises that it keeps in the first rush."""
    rows = []
    for name, policy in policies.items():
        report = serve(RUSHES[0], policy)
        shares, last = kept(report), (f"{report.of_client(c).percentile('ttft', 95):.1f} s" for c in PROMISES)
        rows.append((name, *(f"{shares[client]:.0%}" for client in PROMISES), *last))
    head = [f"{client}s within {seconds:g} s" for client, seconds in PROMISES.items()]
    return Table(("", *head, *(f"{client}s, p95" for client in PROMISES)), rows)


def _pass_time(load: Load) -> float:
    """Return the engine of these stories."""
    return 0.02 + 2e-5 * load.tokens
