"""The cache contract: where keys and values live, and how a model attends over them.

And the two simplest caches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from helpers.model.batch import FlatBatch
from helpers.native.native_pass import Layout
from helpers.ops import by_device as ops

Attention = Callable[[Tensor, Tensor, Tensor, Sequence[int], Sequence[int], float], Tensor]


class Cache(ABC):
    """What a model asks of its cache in one forward pass: `prepare` once, `attend` in each layer, `commit`
    once.

    A sequence's length grows in `commit` and nowhere else. So a pass that fails in some layer leaves every
    length as it was, and the same batch may be tried again. A cache knows keys, values and sequence names. A
    cache knows nothing about weights, sampling or scheduling.
    """

    @abstractmethod
    def prepare(self, batch: FlatBatch) -> None:
        """Make room for the batch's new tokens.

        Raises ValueError, before anything changes, when the batch does not continue what is cached
        (`batch.history_lens`) or does not fit.
        """

    @abstractmethod
    def attend(self, layer_idx: int, q: Tensor, k: Tensor, v: Tensor, batch: FlatBatch) -> Tensor:
        """Store the new tokens' `k`, `v` `[T, KV, D]` and return causal attention of `q [T, H, D]` -> `[T, H,
        D]`.

        `q`, `k` and `v` have one dtype and device, and are rotated already. This method scales scores by `D
        ** -0.5`. A model calls this method once for each layer, in order, after `prepare` and before `commit`
        of the same batch.
        """

    @abstractmethod
    def commit(self, batch: FlatBatch) -> None:
        """Make the new tokens part of their sequences, after the last layer. Never fails."""

    def layout(self, batch: FlatBatch) -> Layout | None:
        """Return where keys and values of the prepared batch lie, for a native pass in place of `attend`.

        None, the default, means that `attend` must be asked.
        """
        return None


class NoCache(Cache):
    """No memory: every pass brings whole sequences.

    The unoptimised path with which tests compare every other cache.
    """

    def __init__(self, attention: Attention = ops.attention):
        """Take an attention operator; `ops.materialised_attention` shows what storing all scores costs."""
        self._attention = attention

    def prepare(self, batch: FlatBatch) -> None:
        """Raise ValueError when the batch counts on a history: this cache keeps none."""
        if any(batch.history_lens):
            raise ValueError(
                f"no cache holds the {max(batch.history_lens)} earlier tokens; bring the whole sequence"
            )

    def attend(self, layer_idx: int, q: Tensor, k: Tensor, v: Tensor, batch: FlatBatch) -> Tensor:
        """Return attention among the batch's own tokens."""
        return self._attention(q, k, v, batch.query_start_loc, batch.query_start_loc, q.shape[-1] ** -0.5)

    def commit(self, batch: FlatBatch) -> None:
        """Do nothing: there is nothing to keep."""


class ConcatCache(Cache):
    """Keys and values concatenated with the new ones: right and simple, but each token copies the whole
    history.
    """

    def __init__(self, attention: Attention = ops.attention) -> None:
        """Take an attention operator; any other of that signature will do, such as chapter 7's."""
        self._attention = attention
        self._stored: dict[Hashable, list[tuple[Tensor, Tensor]]] = {}
        self._grown: dict[Hashable, list[tuple[Tensor, Tensor]]] = {}

    def prepare(self, batch: FlatBatch) -> None:
        """Raise ValueError unless every sequence's history is exactly what is stored."""
        for name, history in zip(batch.seq_ids, batch.history_lens, strict=True):
            if history != self.seq_len(name):
                raise ValueError(
                    f"sequence {name!r}: {self.seq_len(name)} tokens are cached, the batch continues {history}"
                )
        self._grown = {name: [] for name in batch.seq_ids}

    def attend(self, layer_idx: int, q: Tensor, k: Tensor, v: Tensor, batch: FlatBatch) -> Tensor:
        """Return attention over the history joined with the new tokens."""
        for i, name in enumerate(batch.seq_ids):
            new = slice(batch.query_start_loc[i], batch.query_start_loc[i + 1])
            self._grown[name].append(self._joined(name, layer_idx, k[new], v[new]))
        keys, values = (
            torch.cat([self._grown[name][layer_idx][j] for name in batch.seq_ids]) for j in (0, 1)
        )
        kv_start = (0, *accumulate(batch.seq_lens))
        return self._attention(q, keys, values, batch.query_start_loc, kv_start, q.shape[-1] ** -0.5)

    def commit(self, batch: FlatBatch) -> None:
        """Replace the stored histories by the grown ones."""
        self._stored.update(self._grown)
        self._grown = {}

    def seq_len(self, name: Hashable) -> int:
        """Return the number of cached tokens of a sequence; 0 for an unknown name."""
        return self._stored[name][0][0].shape[0] if name in self._stored else 0

    @property
    def nbytes(self) -> int:
        """Return the bytes of all stored keys and values."""
        return sum(t.nbytes for layers in self._stored.values() for pair in layers for t in pair)

    def _joined(self, name: Hashable, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return one layer's keys and values of one sequence, old and new, each `[tokens, KV, D]`."""
        if name not in self._stored:
            return k.clone(), v.clone()
        old_k, old_v = self._stored[name][layer_idx]
        return torch.cat((old_k, k)), torch.cat((old_v, v))
