"""The course's engine: `ContinuousBatcher` over pages, a fresh engine for each call."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

import helpers
from benchmarks.engine import DTYPES, Ours
from benchmarks.rivals.protocol import Adapter, serve
from benchmarks.transformers_batches import Job
from helpers.compression import INT4, INT8, Recipe, quantise
from helpers.model import checkpoint

RECIPES = {"int8": Recipe(INT8, INT8), "int4": Recipe(INT4, INT8)}


class Course(Adapter):
    """The engine that chapters 5, 6 and 8 build."""

    packages = ("torch",)

    def load(self, model: str, format: str, threads: int) -> None:
        torch.set_num_threads(threads)
        loaded = checkpoint.load(DTYPES.get(format, torch.float32), "cpu").model
        self.engine = Ours(quantise(loaded, RECIPES[format]) if format in RECIPES else loaded, 64)

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        return self.engine.serve(list(map(Job, prompts, lengths)))

    def versions(self) -> dict[str, str]:
        """Return torch's version, and the beginning of a sha256 over the library's sources."""
        return {**super().versions(), "helpers": _sources()}


def _sources() -> str:
    """Return what changes when a source of the library changes."""
    root = Path(helpers.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".cpp", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


if __name__ == "__main__":
    serve(Course())
