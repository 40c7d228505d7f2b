"""OpenVINO GenAI's continuous batching: 64 sequences, prefix caching, a cache of the type that it computes in.

In int8 and int4 the weights have few bits, and everything else is OpenVINO's default (a cache in 8 bits).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino
import openvino_genai

from benchmarks.rivals.protocol import Adapter, Unfit, serve


class OpenVino(Adapter):
    """The package `openvino-genai`."""

    packages = ("openvino-genai", "openvino")

    def load(self, model: str, format: str, threads: int) -> None:
        able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if format == "bf16" and "BF16" not in able:
            raise Unfit("the processor does not multiply bf16, and OpenVINO would compute in fp32")
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs, scheduler.cache_size, scheduler.enable_prefix_caching = 64, 4, True
        settings = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if precision := {"fp32": "f32", "bf16": "bf16"}.get(format):
            settings |= {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision}
        self.engine = openvino_genai.ContinuousBatchingPipeline(model, scheduler, "CPU", settings)

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        asked = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
        done = self.engine.generate(asked, [self._greedy(length) for length in lengths])
        return [list(result.m_generation_ids[0]) for result in done]

    @staticmethod
    def _greedy(length: int) -> openvino_genai.GenerationConfig:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = length, True, False
        return config


if __name__ == "__main__":
    serve(OpenVino())
