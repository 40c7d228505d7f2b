"""A decode step of neighbouring cache rows with inputs at fixed places: what every captured step shares.

A captured step repeats fixed work on fixed memory. New tokens are copied into its inputs, and rows that get
no token are padded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from helpers.caches.kv_cache import KVCache
from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM


class DecodeStep(ABC):
    """Decode steps of neighbouring rows of a `KVCache`; a subclass says how a step is captured and repeated."""

    @torch.inference_mode()
    def __init__(self, model: DecoderLM, cache: KVCache, rows: Sequence[int]):
        """Capture a step over rows that have room for a token; the cache keeps its tokens.

        Raises ValueError for rows that are not neighbours in order, and for full rows.
        """
        if not rows or list(rows) != list(range(rows[0], rows[0] + len(rows))):
            raise ValueError(f"expected neighbouring rows in order, got {list(rows)}")
        self._model, self._cache, self._rows = model, cache, list(rows)
        self._batch = self._next([0] * len(rows))
        cache.prepare(self._batch)
        # The captured pass reads this memory in each replay; the cache itself forgets the tensor.
        self._held = cache.prepared
        self._logits = self._capture(self._batch)

    @property
    def size(self) -> int:
        """Return the number of rows of the captured step."""
        return len(self._rows)

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int]) -> Tensor:
        """Return the next-token logits `[tokens, vocab]` in fp32 for one new token of each of the first rows.

        Where there are fewer tokens than rows, the other rows are padding: they are computed, and the cache's
        lengths leave them as they were. The next step overwrites the logits. Raises ValueError as a pass does,
        before anything changes.
        """
        count = len(token_ids)
        if not 1 <= count <= self.size:
            raise ValueError(f"expected 1 to {self.size} tokens, one for each row, got {count}")
        batch = self._next([*token_ids, *[0] * (self.size - count)])
        self._cache.prepare(batch)
        self._batch.token_ids.copy_(batch.token_ids)
        self._batch.positions.copy_(batch.positions)
        self._replay(batch)
        self._cache.commit(_first(batch, count))
        return self._logits[:count]

    @abstractmethod
    def _capture(self, batch: FlatBatch) -> Tensor:
        """Capture the model's pass over the batch; return the logits' memory, which each replay overwrites."""

    @abstractmethod
    def _replay(self, batch: FlatBatch) -> None:
        """Repeat the captured pass; the batch has the lengths of now."""

    def _next(self, token_ids: Sequence[int]) -> FlatBatch:
        """Return the batch of the rows' next tokens; raise ValueError for a token beyond the vocabulary."""
        lens = self._cache.seq_lens
        history = [lens[row] for row in self._rows]
        tokens = [[token] for token in token_ids]
        batch = FlatBatch.pack(tokens, history, self._rows, device=self._model.device)
        if batch.max_token_id >= self._model.cfg.vocab_size:
            raise ValueError(
                f"token ids must be under {self._model.cfg.vocab_size}, got {batch.max_token_id}"
            )
        return batch


def _first(batch: FlatBatch, count: int) -> FlatBatch:
    """Return the first sequences of a decode batch."""
    return replace(
        batch, seq_lens=batch.seq_lens[:count], seq_ids=batch.seq_ids[:count],
        query_start_loc=batch.query_start_loc[: count + 1], new_tokens=batch.new_tokens[:count],
    )  # fmt: skip
