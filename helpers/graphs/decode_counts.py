"""The operator calls of a decoder's pass, counted without computing it: tensors on torch's meta device have no numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from helpers.caches.kv_cache import KVCache
from helpers.graphs.counting import OpCounts, op_counts
from helpers.model.batch import FlatBatch
from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM


def pass_counts(cfg: DecoderConfig, new_tokens: Sequence[int], history: Sequence[int]) -> OpCounts:
    """Return the calls of one pass over rows of a `KVCache`, in plain torch with weights that are not packed.

    Row `i` brings `new_tokens[i]` tokens after `history[i]`. The counts are those of any processor, because
    nothing is computed. Raises ValueError for lists of different lengths, and as `FlatBatch.pack` does.
    """
    lengths = [new + old for new, old in zip(new_tokens, history, strict=True)]
    with torch.device("meta"):
        model = DecoderLM(cfg)
    sizes = (cfg.num_layers, len(lengths), max(lengths), cfg.num_kv_heads, cfg.head_dim)
    cache = KVCache(*sizes, device="meta")
    batch = FlatBatch.pack([[0] * n for n in new_tokens], history, device="meta")
    for row, length in enumerate(history):
        if length:
            some = torch.empty(cfg.num_layers, cfg.num_kv_heads, length, cfg.head_dim, device="meta")
            cache.restore(row, some, some)
    return op_counts(lambda: model(batch, cache), [*model.parameters(), cache.k, cache.v])


def decode_counts(cfg: DecoderConfig, batch: int = 1, context: int = 8) -> OpCounts:
    """Return the calls of a decode step: one token for each of `batch` rows that hold `context` tokens each."""
    return pass_counts(cfg, [1] * batch, [context] * batch)
