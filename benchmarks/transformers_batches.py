"""transformers' static and continuous batching, which the course's engine is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
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


def timed(function: Any, *arguments: Any) -> tuple[float, Any]:
    """Seconds of a call, and what it gave."""
    begin = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begin, result
