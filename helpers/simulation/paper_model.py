"""A model on paper, for trying out schedules: nothing is computed, a virtual clock moves on.

The clock moves on by the time that a pass would take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.estimates.ceilings import Ceilings
from helpers.estimates.cost import step_cost
from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache, NoCache
from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM
from helpers.model.shapes import ModelShape
from helpers.traffic.clock import VirtualClock
from helpers.traffic.replay import Batcher, replay_trace
from helpers.traffic.trace import Arrival, Trace


class PaperModel(DecoderLM):
    """Stand in for a model in a batcher: every answer is token 0, and each pass moves `clock` on.

    A pass takes the least time that is possible under `ceilings` (`helpers.estimates.cost`), plus `overhead`
    seconds.
    """

    def __init__(
        self,
        shape: ModelShape,
        ceilings: Ceilings,
        clock: VirtualClock,
        overhead: float = 0.0,
        **sizes: float,
    ):
        """Set sizes and limits; `sizes` are the options of `step_cost`."""
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
        """Return logits that choose token 0 for each sequence; prepare and commit the cache as usual."""
        cache = cache or NoCache()
        cache.prepare(batch)
        cost = step_cost(self.shape, batch.query_lens, batch.history_lens, **self.sizes)
        self.clock.advance(cost.seconds(self.ceilings) + self.overhead)
        cache.commit(batch)
        return torch.zeros(len(batch.seq_lens) if logits == "last" else len(batch.token_ids), 1)

    def cache(self, num_pages: int, page_size: int = 16) -> PagedKVCache:
        """Return pages for this model, which hold next to nothing.

        Equal texts are not shared, since all tokens are alike.
        """
        return PagedKVCache.for_model(self, num_pages, page_size, sharing=False)


def serve_on_paper(
    batcher: Batcher,
    prompts: Sequence[int],
    answers: Sequence[int],
    arrivals: Sequence[float],
    clock: VirtualClock,
) -> None:
    """Serve requests of so many prompt and answer tokens, numbered from 0, that come at `arrivals`.

    `arrivals` are seconds, in order. The batcher must run on a `PaperModel` with this clock. Raises
    ValueError for lists that do not fit together.
    """
    if not len(prompts) == len(answers) == len(arrivals) or list(arrivals) != sorted(arrivals):
        raise ValueError(
            "expected as many prompts as answers and arrivals, and arrivals in order, "
            f"got {len(prompts)}, {len(answers)} and {list(arrivals)}"
        )
    arrivals_of = zip(arrivals, prompts, answers, strict=True)
    replay_trace(
        Trace([Arrival(at, prompt, new) for at, prompt, new in arrivals_of]), batcher, clock, vocab_size=1
    )


_SMALLEST = DecoderConfig(
    vocab_size=1, hidden_size=2, intermediate_size=1, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=2,
    max_positions=2**20, rms_norm_eps=1e-6, tied=True, qkv_bias=False, o_bias=False, mlp_bias=False,
    qk_norm=False, inv_freq=(1.0,), rope_scale=1.0,
)  # fmt: skip
