"""transformers' `generate` over static batches of 16, padded on the left."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.rivals.protocol import Adapter, serve
from benchmarks.transformers_batches import Job, static_batches
from helpers.model import checkpoint


class Transformers(Adapter):
    """The model class of transformers itself."""

    packages = ("transformers", "torch")

    def load(self, model: str, format: str, threads: int) -> None:
        torch.set_num_threads(threads)
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
        self.model = checkpoint.load_reference(dtypes[format], "cpu")

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        return static_batches(self.model, list(map(Job, prompts, lengths)), 16)


if __name__ == "__main__":
    serve(Transformers())
