"""What `benchmarks.engine` compares with: transformers' static and continuous batching, and llama.cpp's server."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig


class Job(NamedTuple):
    """A prompt, and how many tokens must come after it, whatever they are."""

    prompt: list[int]
    new_tokens: int


Answers = list[list[int]]


def static_batches(model: Any, jobs: Sequence[Job], seats: int) -> Answers:
    """`generate` over `seats` jobs at a time, padded on the left; each batch runs to its longest answer."""
    answers: Answers = []
    for start in range(0, len(jobs), seats):
        batch = jobs[start : start + seats]
        longest, most = max(len(job.prompt) for job in batch), max(job.new_tokens for job in batch)
        ids = torch.tensor([[0] * (longest - len(job.prompt)) + job.prompt for job in batch])
        mask = torch.tensor([[0] * (longest - len(job.prompt)) + [1] * len(job.prompt) for job in batch])
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=most, do_sample=False, pad_token_id=0, eos_token_id=None
        )  # fmt: skip
        answers += [
            row[longest : longest + job.new_tokens].tolist() for row, job in zip(out, batch, strict=True)
        ]
    return answers


def continuous_batches(model: Any, jobs: Sequence[Job], seats: int) -> Answers:
    """transformers' continuous batching: pages of 32 tokens, at most 512 tokens and `seats` requests in a pass."""
    config = ContinuousBatchingConfig(
        page_size=32, num_blocks=1024, max_batch_tokens=512, max_requests_per_batch=seats
    )
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=128)
    manager = model.init_continuous_batching(generation_config=generation, continuous_batching_config=config)
    manager.start()
    try:
        names = [
            manager.add_request(job.prompt, request_id=str(i), max_new_tokens=job.new_tokens)
            for i, job in enumerate(jobs)
        ]
        done: dict[str, list[int]] = {}
        while len(done) < len(names):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                done[result.request_id] = result.generated_tokens
            elif result is None and not manager.is_running():
                raise RuntimeError("transformers' continuous batching has stopped")
        return [done[name] for name in names]
    finally:
        manager.stop(block=True)


class LlamaServer:
    """llama.cpp's server from the package `xllamacpp`, with F16 weights, in a process of its own.

    In one process both would share one OpenMP, which lets no thread spin once it has more threads than cores, idle ones
    included: each would slow the other down by its mere presence.
    """

    def __init__(self, gguf: Path, seats: int, threads: int, context: int = 1024):
        """A running server with `seats` slots of `context` tokens."""
        apart = multiprocessing.get_context("spawn")
        self._pipe, theirs = apart.Pipe()
        arguments = (theirs, str(gguf), seats, threads, context)
        apart.Process(target=_run_llama, args=arguments, daemon=True).start()
        theirs.close()  # only the other process holds it, so its end is noticed here
        self._answer()

    def serve(self, jobs: Sequence[Job]) -> None:
        """Asks all jobs at once; the server queues what has no slot. It answers in text, so there are no tokens to compare."""
        self._pipe.send([tuple(job) for job in jobs])
        self._answer()

    def _answer(self) -> None:
        """Waits for the other process; RuntimeError with what went wrong there, or when it has ended."""
        try:
            problem = self._pipe.recv()
        except EOFError:
            problem = "llama.cpp's server has ended; it comes with the extra `bench`"
        if problem:
            raise RuntimeError(problem)


def _run_llama(pipe: Connection, gguf: str, seats: int, threads: int, context: int) -> None:
    """The other process: a server that answers lists of jobs with an empty text, or with what went wrong."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_parallel, params.n_ctx = seats, seats * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup, params.verbosity = True, 0
    server = xllamacpp.Server(params)

    def ask(job: tuple[list[int], int]) -> str:
        prompt, new_tokens = job
        answer = server.handle_completions({
            "prompt": prompt, "n_predict": new_tokens, "ignore_eos": True, "temperature": 0, "cache_prompt": True,
        })  # fmt: skip
        right = answer.get("usage", {}).get("completion_tokens") == new_tokens
        return "" if right else f"llama.cpp's server answered {str(answer)[:300]}"

    pipe.send("")
    with suppress(EOFError):  # the benchmark has ended
        while True:
            jobs = pipe.recv()
            with ThreadPoolExecutor(len(jobs)) as pool:
                pipe.send(next(filter(None, pool.map(ask, jobs)), ""))


def write_f16(source: Path, target: Path) -> None:
    """The GGUF file `source` again, its matrices in F16."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, dequantize

    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = field.contents()
        value = 1 if name == "general.file_type" else value  # mostly F16
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        wanted = np.float32 if tensor.tensor_type == GGMLQuantizationType.F32 else np.float16
        writer.add_tensor(tensor.name, values.reshape(tensor.shape[::-1]).astype(wanted))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def timed(function: Any, *arguments: Any) -> tuple[float, Any]:
    """Seconds of a call, and what it gave."""
    begin = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begin, result
