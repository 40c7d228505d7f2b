"""A cache of rows whose decode step has the same shapes at every length: what a capture without updates needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.caches.kv_cache import KVCache
from helpers.model.batch import FlatBatch


class MaskedRows(KVCache):
    """Rows over which a decode step attends as a whole, `max_seq_len` keys each; a mask hides the unwritten ones.

    The mask is memory at a fixed place, written in `prepare`. So a captured step sees the lengths of now. The
    price: each step reads all rows to their end. Other passes than decode steps are those of `KVCache`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        """Allocate empty rows, as `KVCache` does, and their mask."""
        super().__init__(*args, **kwargs)
        self._mask = torch.zeros(
            self.batch_size, 1, 1, self.max_seq_len, dtype=self.k.dtype, device=self.k.device
        )

    def prepare(self, batch: FlatBatch) -> None:
        """Raise ValueError as `KVCache` does; then hide in each row of the batch what lies behind its length."""
        super().prepare(batch)
        places = torch.arange(self.max_seq_len, device=self.k.device)
        lengths = torch.tensor(batch.seq_lens, device=self.k.device)[:, None]
        hidden = torch.zeros(places.shape, dtype=self.k.dtype, device=self.k.device)
        masks = hidden.masked_fill(places >= lengths, float("-inf"))
        self._mask[torch.tensor(batch.seq_ids, device=self.k.device), 0, 0] = masks

    def attend(self, layer_idx: int, q: Tensor, k: Tensor, v: Tensor, batch: FlatBatch) -> Tensor:
        """Write the new tokens, then attend over whole rows under the mask. Returns `[T, heads, head_dim]`."""
        rows, count = [int(name) for name in batch.seq_ids], len(batch.seq_ids)  # type: ignore[call-overload]
        neighbours = rows == list(range(rows[0], rows[0] + count))
        if len(q) != count or not neighbours or self._rows is None:
            return super().attend(layer_idx, q, k, v, batch)
        part = slice(rows[0], rows[0] + count)
        keys, values = self.k[layer_idx], self.v[layer_idx]
        for cache, new in ((keys, k), (values, v)):
            cache[self._rows, :, batch.positions] = new
        grouped = q.reshape(count, keys.shape[1], -1, q.shape[-1])
        out = F.scaled_dot_product_attention(grouped, keys[part], values[part], attn_mask=self._mask[part])
        return out.reshape(q.shape)
