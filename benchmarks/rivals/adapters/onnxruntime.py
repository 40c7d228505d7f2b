"""onnxruntime-genai's generator: static batches of 16, the only ones that it has on a processor, run to their end.

Its int4 has groups of 32 with zero points, and an output matrix of 8 bits; the products make int8 of activations, its
default. Shorter prompts of a batch are padded at their end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnxruntime_genai

from benchmarks.rivals.protocol import StaticBatches, serve

PADDING = 2
UNUSED = 49_151
"""Stands for the end of an answer, so that the model's own end is a token like any other."""


class OnnxRuntime(StaticBatches):
    """The package `onnxruntime-genai`."""

    packages = ("onnxruntime-genai", "onnxruntime")

    def load(self, model: str, format: str, threads: int) -> None:
        config = onnxruntime_genai.Config(model)
        session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
        settings = {
            "eos_token_id": [UNUSED],
            "pad_token_id": PADDING,
            "decoder": {"session_options": session},
        }
        config.overlay(json.dumps({"model": settings}))
        self.engine = onnxruntime_genai.Model(config)

    def batch(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        longest, new = max(map(len, prompts)), max(lengths)
        params = onnxruntime_genai.GeneratorParams(self.engine)
        both = {"min_length": longest + new, "max_length": longest + new}
        params.set_search_options(batch_size=len(prompts), do_sample=False, **both)
        generator = onnxruntime_genai.Generator(self.engine, params)
        rows = [prompt + [PADDING] * (longest - len(prompt)) for prompt in prompts]
        generator.append_tokens(np.array(rows, np.int32))
        for _ in range(new):
            generator.generate_next_token()
        ends = (longest + length for length in lengths)
        return [generator.get_sequence(i)[longest:end].tolist() for i, end in enumerate(ends)]


if __name__ == "__main__":
    serve(OnnxRuntime())
