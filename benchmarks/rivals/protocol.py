"""The rival's side of the pipe: a call is one line of JSON on stdin, its answer one line on stdout.

Every rival runs this in its own environment, so that only the standard library is imported. A call is an object
with `call` and arguments; the answer has `result`, or `problem`: one sentence.

| call | arguments | result |
|---|---|---|
| `load` | model (a path), format, threads | versions of what computes |
| `listen` | model, format, threads | in place of `load`: the address of the rival's own HTTP server |
| `versions` | | versions of what computes |
| `warm_up` | | nothing |
| `decode` | context, batch, turn | seconds, tokens, answers |
| `prefill` | length, turn | seconds, tokens, answers |
| `requests` | prompts, lengths | seconds, tokens, answers |
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, TextIO

STEPS = 32
"""Decode steps of a sample."""


class Unfit(Exception):
    """This machine cannot run a rival in the wanted format; the message is one sentence."""


class Adapter:
    """What a rival has to do: `load` and `answers`. The rest is measured by these two."""

    packages: tuple[str, ...] = ()
    """Packages whose versions are told."""

    def load(self, model: str, format: str, threads: int) -> None:
        """Load the model from a path. Raise Unfit where this machine cannot compute in `format`."""
        raise NotImplementedError

    def listen(self, model: str, format: str, threads: int) -> str:
        """Load the model behind the rival's own server, at this machine's own address; return the address.

        The server answers OpenAI's `/v1/completions`, and ends with this process or with its group. Raise Unfit
        where there is no server, or where it does not start.
        """
        raise Unfit("has no server of its own")

    def versions(self) -> dict[str, str]:
        """Return the versions of what computes."""
        return {package: version(package) for package in self.packages}

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Return the answers to all prompts, asked at once: exactly as many tokens as wanted, greedy."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Serve a long prompt and a small batch, so that nothing is compiled or allocated later."""
        rng = random.Random("warm up")
        self.answers([tokens(rng, 512)], [4])
        self.answers([tokens(rng, 32) for _ in range(16)], [4] * 16)

    def decode(self, context: int, batch: int, turn: int) -> dict[str, Any]:
        """Return the time of `STEPS` decode steps: that of longer answers, less that of answers of one token."""
        rng = random.Random(f"decode {context} {batch} {turn}")
        times, answers = [], []
        for length in (1, 1 + STEPS):  # with prompts of their own: no cache helps
            prompts = [tokens(rng, context) for _ in range(batch)]
            sample = self.requests(prompts, [length] * batch)
            times.append(sample["seconds"])
            answers += sample["answers"]
        return {"seconds": times[1] - times[0], "tokens": STEPS * batch, "answers": answers}

    def prefill(self, length: int, turn: int) -> dict[str, Any]:
        """Return the time from a prompt to its first token; `tokens` counts the prompt's."""
        prompt = tokens(random.Random(f"prefill {length} {turn}"), length)
        return {**self.requests([prompt], [1]), "tokens": length}

    def requests(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> dict[str, Any]:
        """Return the time of all requests, asked at once. RuntimeError for an answer of another length."""
        begin = time.perf_counter()
        answers = self.answers(prompts, lengths)
        seconds = time.perf_counter() - begin
        if [len(answer) for answer in answers] != list(lengths):
            raise RuntimeError("an answer has another length than was asked for")
        return {"seconds": seconds, "tokens": sum(lengths), "answers": answers}


class StaticBatches(Adapter):
    """A rival that has static batches alone: requests are served 16 at a time, each batch to its longest answer."""

    seats = 16

    def batch(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Return the answers to one batch, as `answers` does."""
        raise NotImplementedError

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Return the answers to all prompts, batch after batch."""
        found: list[list[int]] = []
        for start in range(0, len(prompts), self.seats):
            part = slice(start, start + self.seats)
            found += self.batch(prompts[part], lengths[part])
        return found


def tokens(rng: random.Random, count: int) -> list[int]:
    """Return random tokens, none of them special."""
    return [rng.randrange(100, 49_000) for _ in range(count)]


def serve(adapter: Adapter) -> None:
    """Answer calls until stdin ends. What the rival's own libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        _tell(out, _answer(adapter, json.loads(line)))


def _answer(adapter: Adapter, call: dict[str, Any]) -> dict[str, Any]:
    """Return a call's result, or the problem: a rival may raise anything, and the benchmark goes on."""
    name = call.pop("call")
    try:
        result = getattr(adapter, name)(**call)
        if name == "load":
            result = adapter.versions()
        return {"result": result}
    except Unfit as reason:
        return {"problem": str(reason)}
    except Exception as error:
        return {"problem": f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _tell(out: TextIO, answer: dict[str, Any]) -> None:
    """Write one line."""
    out.write(json.dumps(answer) + "\n")
    out.flush()
