"""CTranslate2's generator: static batches of 16, the only ones that it has, run to their longest answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import ctranslate2

from benchmarks.rivals.protocol import StaticBatches, Unfit, serve

TYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


class CTranslate2(StaticBatches):
    """The package `ctranslate2`."""

    packages = ("ctranslate2",)

    def load(self, model: str, format: str, threads: int) -> None:
        if TYPES[format] not in ctranslate2.get_supported_compute_types("cpu"):
            raise Unfit(f"CTranslate2 does not compute in {format} on this processor")
        self.words = json.loads((Path(model) / "vocabulary.json").read_text())
        self.engine = ctranslate2.Generator(
            model, device="cpu", compute_type=TYPES[format], intra_threads=threads
        )

    def batch(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        asked = [[self.words[token] for token in prompt] for prompt in prompts]
        done = self.engine.generate_batch(
            asked,
            max_length=max(lengths),
            min_length=max(lengths),
            end_token=[],
            include_prompt_in_result=False,
        )
        return [list(result.sequences_ids[0][:length]) for result, length in zip(done, lengths, strict=True)]


if __name__ == "__main__":
    serve(CTranslate2())
