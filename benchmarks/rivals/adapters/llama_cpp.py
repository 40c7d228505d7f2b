"""llama.cpp's server out of the package `xllamacpp`: 16 slots of 1,024 tokens, a cache in F16 as by default.

`bf16` stands for F16 here, the 16 bits that llama.cpp's own converter chooses.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import xllamacpp

from benchmarks.rivals.protocol import Adapter, serve

SLOTS, CONTEXT = 16, 1024


class LlamaCpp(Adapter):
    """The server, asked over HTTP; it queues what has no slot."""

    packages = ("xllamacpp",)

    def load(self, model: str, format: str, threads: int) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup, params.verbosity, params.ui = True, 0, False
        self.server = xllamacpp.Server(params)

    def listen(self, model: str, format: str, threads: int) -> str:
        self.load(model, format, threads)
        return str(self.server.listening_address)

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(self._ask, prompts, lengths))

    def _ask(self, prompt: list[int], length: int) -> list[int]:
        body = {
            "prompt": prompt, "n_predict": length, "ignore_eos": True, "temperature": 0, "cache_prompt": True,
            "return_tokens": True,
        }  # fmt: skip
        address = f"{self.server.listening_address}/completion"
        request = urllib.request.Request(
            address, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            tokens: list[int] = json.load(answer)["tokens"]
            return tokens


if __name__ == "__main__":
    serve(LlamaCpp())
