"""The course's engine: `ContinuousBatcher` over pages, a fresh engine for each call, or one behind the server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import helpers
from benchmarks.engine import DTYPES, Ours
from benchmarks.rivals.protocol import Adapter, serve
from benchmarks.transformers_batches import Job
from helpers.compression import INT4, INT8, Q8_0, Recipe, quantise
from helpers.model import checkpoint
from helpers.serving import make_service
from helpers.serving.clients import Loopback

RECIPES = {"int8": Recipe(INT8, INT8), "int4": Recipe(INT4, Q8_0)}
SEATS = 64


class Course(Adapter):
    """The engine that chapters 5, 6 and 8 build."""

    packages = ("torch",)

    def load(self, model: str, format: str, threads: int) -> None:
        self.engine = Ours(_loaded(format, threads)[0], SEATS)

    def listen(self, model: str, format: str, threads: int) -> str:
        served, tokenizer = _loaded(format, threads)
        service = make_service(served, tokenizer, "model", max_batch_size=SEATS, max_waiting=512)
        self.server = Loopback(service).start()
        return self.server.url

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        return self.engine.serve(list(map(Job, prompts, lengths)))

    def versions(self) -> dict[str, str]:
        """Return torch's version, and the beginning of a sha256 over the library's sources."""
        return {**super().versions(), "helpers": _sources()}


def _loaded(format: str, threads: int) -> tuple[Any, Any]:
    """Return the model in a format, and its tokenizer."""
    torch.set_num_threads(threads)
    loaded = checkpoint.load(DTYPES.get(format, torch.float32), "cpu")
    return quantise(loaded.model, RECIPES[format]) if format in RECIPES else loaded.model, loaded.tokenizer


def _sources() -> str:
    """Return what changes when a source of the library changes."""
    root = Path(helpers.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".cpp", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


if __name__ == "__main__":
    serve(Course())
