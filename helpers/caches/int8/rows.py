"""A KV cache of rows in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.caches.kv_cache import KVCache
from helpers.model.batch import FlatBatch
from helpers.ops import by_device as ops
from helpers.ops.int8_cache import SCALE, Int8


class Int8KVCache(KVCache):
    """`KVCache` whose keys and values are int8, with one bf16 scale for each token and head.

    Codes are `k` and `v`, `[layers, batch, kv_heads, max_seq_len, head_dim]`; `k_scale` and `v_scale` lack the
    last dimension. `dtype` is the type of the keys and values that go in, and that `get` gives back.
    """

    def update(
        self, layer_idx: int, k: Tensor, v: Tensor, positions: Tensor | Sequence[Sequence[int]]
    ) -> None:
        """Write one layer's `k`, `v` `[batch, kv_heads, n, head_dim]` at `positions`, as the base class does."""
        starts = self._checked(layer_idx, k, v, torch.as_tensor(positions))
        n = k.shape[2]
        for cache, new in zip(self._layer(layer_idx), (k, v), strict=True):
            codes, scale = Int8.of(new)
            for row, start in enumerate(starts):
                cache.codes[row, :, start : start + n] = codes[row]
                cache.scale[row, :, start : start + n] = scale[row]
        for row, start in enumerate(starts):
            self._written[layer_idx][row] = start + n

    def attend(self, layer_idx: int, q: Tensor, k: Tensor, v: Tensor, batch: FlatBatch) -> Tensor:
        """Write the new tokens as codes, then attend over each row's used part; return `[T, heads, head_dim]`."""
        if k.dtype != self.dtype:
            raise ValueError(f"the cache takes {self.dtype}, the model gives {k.dtype}")
        if self._rows is None:
            raise ValueError("attend comes after prepare")
        keys, values = self._layer(layer_idx)
        ops.write_int8_rows(k, v, keys, values, self._rows, batch.positions)
        rows = [int(name) for name in batch.seq_ids]  # type: ignore[call-overload]  # prepare checked them
        return ops.attention_int8_rows(
            q, keys, values, rows, batch.query_start_loc, batch.seq_lens, q.shape[-1] ** -0.5
        )

    def _allocate(
        self, sizes: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Make the tensors that hold codes and scales."""
        self.k = torch.zeros(sizes, dtype=torch.int8, device=device)
        self.v = torch.zeros_like(self.k)
        self.k_scale = torch.zeros(sizes[:-1], dtype=SCALE, device=device)
        self.v_scale = torch.zeros_like(self.k_scale)
        self._stored = (self.k, self.v, self.k_scale, self.v_scale)

    def _layer(self, layer_idx: int) -> tuple[Int8, Int8]:
        """Return one layer's keys and values as they are stored."""
        keys = Int8(self.k[layer_idx], self.k_scale[layer_idx])
        return keys, Int8(self.v[layer_idx], self.v_scale[layer_idx])

    def _fill(self, row: int, k: Tensor, v: Tensor) -> None:
        """Write the first tokens of a row in all layers, each `[layers, kv_heads, n, head_dim]`."""
        for codes, scale, new in ((self.k, self.k_scale, k), (self.v, self.v_scale, v)):
            codes[:, row, :, : new.shape[2]], scale[:, row, :, : new.shape[2]] = Int8.of(new)

    def _row(self, layer_idx: int, row: int) -> tuple[Tensor, Tensor]:
        """Return the numbers behind one layer's keys and values of one row, as far as they are written."""
        end = self._written[layer_idx][row]
        keys, values = (
            Int8(codes[row, :, :end], scale[row, :, :end]).numbers(self.dtype)
            for codes, scale in self._layer(layer_idx)
        )
        return keys, values
