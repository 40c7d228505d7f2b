"""A model on paper: nothing is computed, a virtual clock moves on by what a pass would take. For trying out schedules."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import torch
from torch import Tensor

from helpers.batch import FlatBatch
from helpers.cache import Cache, NoCache
from helpers.ceilings import Ceilings
from helpers.cost import step_cost
from helpers.decoder_config import DecoderConfig
from helpers.model import DecoderLM
from helpers.paged_kv_cache import PagedKVCache
from helpers.request import Request, RequestState
from helpers.shapes import ModelShape


class VirtualClock:
    """Seconds that pass when somebody says so. Called, it gives the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves on; ValueError for a step back."""
        if not seconds >= 0:
            raise ValueError(f"time goes forward, got {seconds} seconds")
        self.now += seconds

    @contextmanager
    def back_at(self, moment: float) -> Iterator[None]:
        """Within the block the time is `moment`: for noting afterwards when something came."""
        present, self.now = self.now, moment
        try:
            yield
        finally:
            self.now = present


class PaperModel(DecoderLM):
    """Stands in for a model in a batcher: every answer is token 0, and `clock` moves on by each pass's predicted time.

    The time is the least that the pass can take under `ceilings` (`helpers.cost`), plus `overhead` seconds.
    """

    def __init__(
        self,
        shape: ModelShape,
        ceilings: Ceilings,
        clock: VirtualClock,
        overhead: float = 0.0,
        **sizes: float,
    ):
        """`sizes` are `step_cost`'s."""
        super().__init__(_SMALLEST)
        self.shape, self.ceilings, self.clock, self.overhead, self.sizes = (
            shape,
            ceilings,
            clock,
            overhead,
            sizes,
        )

    def forward(
        self, batch: FlatBatch, cache: Cache | None = None, logits: Literal["last", "all"] = "last"
    ) -> Tensor:
        """Logits that choose token 0 for each sequence; the cache takes its notes as in a real pass."""
        cache = cache or NoCache()
        cache.prepare(batch)
        cost = step_cost(self.shape, batch.query_lens, batch.history_lens, **self.sizes)
        self.clock.advance(cost.seconds(self.ceilings) + self.overhead)
        cache.commit(batch)
        return torch.zeros(len(batch.seq_lens) if logits == "last" else len(batch.token_ids), 1)

    def cache(self, num_pages: int, page_size: int = 16) -> PagedKVCache:
        """Pages for this model, which hold next to nothing; equal texts are not shared, since all tokens are alike."""
        return PagedKVCache.for_model(self, num_pages, page_size, sharing=False)


class Batcher(Protocol):
    """What `replay` drives: `ContinuousBatcher`, `StaticBatcher`."""

    @property
    def finished(self) -> Mapping[Hashable, RequestState]:
        """The requests that are done."""

    def add_request(self, request: Request) -> None:
        """Puts a request into the queue."""

    def process_batch(self) -> object:
        """Works for a while."""


def replay(
    batcher: Batcher,
    prompts: Sequence[int],
    answers: Sequence[int],
    arrivals: Sequence[float],
    clock: VirtualClock,
) -> None:
    """Serves requests of so many prompt and answer tokens, numbered from 0, that come at `arrivals`, in seconds, sorted.

    The batcher must run on a `PaperModel` with this clock. Raises ValueError for lists that do not fit together.
    """
    if not len(prompts) == len(answers) == len(arrivals) or list(arrivals) != sorted(arrivals):
        raise ValueError(
            "expected as many prompts as answers and arrivals, and arrivals in order, "
            f"got {len(prompts)}, {len(answers)} and {list(arrivals)}"
        )
    come = 0
    while len(batcher.finished) < len(prompts):
        if len(batcher.finished) == come:  # nobody is here: the time until the next one comes goes by
            clock.advance(max(0.0, arrivals[come] - clock.now))
        while come < len(prompts) and arrivals[come] <= clock.now:
            with clock.back_at(arrivals[come]):
                batcher.add_request(Request(come, [0] * prompts[come], answers[come]))
            come += 1
        batcher.process_batch()


_SMALLEST = DecoderConfig(
    vocab_size=1, hidden_size=2, intermediate_size=1, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=2,
    max_positions=2**20, rms_norm_eps=1e-6, tied=True, qkv_bias=False, o_bias=False, mlp_bias=False, qk_norm=False,
    inv_freq=(1.0,), rope_scale=1.0,
)  # fmt: skip
