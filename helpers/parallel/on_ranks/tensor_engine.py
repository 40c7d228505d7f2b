"""The engine of chapter 5 on tensor-parallel ranks: the same code on each rank, with a part of the model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from torch import Tensor

from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.engine.batching import ContinuousBatcher
from helpers.engine.request import Request
from helpers.model.batch import FlatBatch
from helpers.parallel.loading import load_shard
from helpers.parallel.shared_clock import SharedClock
from helpers.parallel.tensor_parallel import TensorParallelLM


@dataclass(frozen=True)
class Served:
    """What one rank's engine did."""

    tokens: dict[Hashable, list[int]]
    """The answers."""
    loads: list[tuple[int, int]]
    """Tokens and sequences of each pass."""
    seconds: list[float]
    """Seconds of each pass."""
    calls: dict[str, int]
    """Collectives by name."""
    nbytes: dict[str, int]
    """Bytes that this rank handed in, by collective."""


@cache
def part(folder: Path | str | None = None) -> TensorParallelLM:
    """Return this rank's part of the model, which is loaded once."""
    return load_shard(folder)


def weight_bytes(folder: Path | str | None = None) -> int:
    """Return the bytes of this rank's parameters, as the checkpoint has them."""
    return sum(parameter.numel() * 4 for parameter in part(folder).parameters())


def serve(requests: Sequence[Request], folder: Path | str | None = None, num_pages: int = 256) -> Served:
    """Serve requests on this rank; all ranks serve the same ones at the same time."""
    model = part(folder)
    collectives = model.collectives
    collectives.calls.clear()
    collectives.nbytes.clear()
    clock = SharedClock(collectives)  # else two ranks could plan two passes
    engine = ContinuousBatcher(model, PagedKVCache.for_model(model, num_pages), clock=clock)
    for request in requests:
        engine.add_request(request)
    tokens = {name: state.token_ids for name, state in engine.run().items()}
    loads = [(sum(p.num_tokens for p in step.parts), len(step.parts)) for step in engine.steps]
    seconds = [step.end - step.begin for step in engine.steps]
    return Served(tokens, loads, seconds, dict(collectives.calls), dict(collectives.nbytes))


def all_logits(text: Sequence[int], folder: Path | str | None = None) -> Tensor:
    """Return the logits of all tokens of a text, `[T, vocab]`."""
    logits: Tensor = part(folder)(FlatBatch.pack([list(text)]), logits="all")
    return logits


def serve_apart(requests: Sequence[Request], folder: Path | str | None = None) -> Served:
    """Serve requests for which each rank draws with a seed of its own. Plausible, and wrong.

    Each rank goes on with its own tokens, so that the sums over ranks mix several texts, and no error says so.
    """
    rank = part(folder).collectives.rank
    return serve([replace(request, seed=request.seed + rank) for request in requests], folder)
