"""A KV cache of fixed size: memory for every token is reserved at the start, and nothing is moved later."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache
from helpers.model.decoder import DecoderLM
from helpers.native.native_pass import Layout
from helpers.native.page_attention import Sequences
from helpers.ops import by_device as ops


class KVCache(Cache):
    """Keys and values of `batch_size` sequences, a row each, up to `max_seq_len` tokens.

    Two tensors hold them, allocated once, each `[layers, batch, kv_heads, max_seq_len, head_dim]`. The number
    of a row is the name of its sequence (`FlatBatch.seq_ids`). A row can be cleared and used again while the
    other rows go on.

    There are two ways in. A model's passes use the cache contract (`prepare`, `attend`, `commit`). By hand,
    `update` writes and `get` reads one layer; a token counts in `seq_lens` when every layer has it.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        max_seq_len: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        """Allocate empty rows. Raises ValueError for a size under 1 or a type that is no floating point."""
        sizes = (num_layers, batch_size, num_kv_heads, max_seq_len, head_dim)
        if min(sizes) < 1:
            raise ValueError(
                f"every size must be 1 or more, got {sizes} (layers, batch, KV heads, length, dim)"
            )
        if not dtype.is_floating_point:
            raise ValueError(f"keys and values are floating-point numbers, got {dtype}")
        self.dtype = dtype
        self._allocate(sizes, dtype, device)
        self._written = [[0] * batch_size for _ in range(num_layers)]
        self._rows: Tensor | None = None

    @classmethod
    def for_model(cls, model: DecoderLM, batch_size: int, max_seq_len: int) -> KVCache:
        """Return a cache of the model's sizes, in its type, on its device."""
        cfg = model.cfg
        return cls(
            cfg.num_layers,
            batch_size,
            max_seq_len,
            cfg.num_kv_heads,
            cfg.head_dim,
            dtype=model.dtype,
            device=model.device,
        )

    @property
    def num_layers(self) -> int:
        """Layers that each token passes."""
        return self.k.shape[0]

    @property
    def batch_size(self) -> int:
        """Rows."""
        return self.k.shape[1]

    @property
    def max_seq_len(self) -> int:
        """Tokens that a row can hold."""
        return self.k.shape[3]

    @property
    def seq_lens(self) -> list[int]:
        """For each row, the tokens that every layer has."""
        return [min(lens) for lens in zip(*self._written, strict=True)]

    @property
    def prepared(self) -> Tensor | None:
        """The row of each token of the batch between `prepare` and `commit`, int64 `[T]`.

        A captured pass reads this memory in each replay, so its owner must hold the tensor.
        """
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of the whole cache, used or not."""
        return sum(tensor.nbytes for tensor in self._stored)

    def update(
        self, layer_idx: int, k: Tensor, v: Tensor, positions: Tensor | Sequence[Sequence[int]]
    ) -> None:
        """Write one layer's `k`, `v` `[batch, kv_heads, n, head_dim]` at `positions`.

        `positions` are whole numbers `[batch, n]`; each row has its own. A row's positions must follow one
        another. The first of them is at most the row's length in this layer, so that no gap arises. Tokens
        behind the last one are forgotten.

        Raises ValueError, before anything is written, for another shape, type or device. The same error
        refuses positions that are fractional, negative, beyond the capacity or past the row's end.
        """
        starts = self._checked(layer_idx, k, v, torch.as_tensor(positions))
        n = k.shape[2]
        for row, start in enumerate(starts):
            self.k[layer_idx, row, :, start : start + n] = k[row]
            self.v[layer_idx, row, :, start : start + n] = v[row]
            self._written[layer_idx][row] = start + n

    def get(
        self, layer_idx: int, batch_idx: int | None = None
    ) -> tuple[Tensor, Tensor] | list[tuple[Tensor, Tensor]]:
        """Return what one layer holds of a row: `(k, v)`, each `[kv_heads, length, head_dim]`.

        Both are views without the unused rest. Without `batch_idx`, return a list with one such pair for each
        row.
        """
        self._check_layer(layer_idx)
        if batch_idx is None:
            return [self._row(layer_idx, row) for row in range(self.batch_size)]
        self._check_row(batch_idx)
        return self._row(layer_idx, batch_idx)

    def restore(self, batch_idx: int, k: Tensor, v: Tensor) -> None:
        """Fill an empty row, in all layers, with the beginning of a text.

        `k` and `v` are `[layers, kv_heads, n, head_dim]`. Raises ValueError, before anything is written, for
        a row that holds tokens, another shape or too many tokens.
        """
        self._check_row(batch_idx)
        layers, _, kv_heads, room, dim = self.k.shape
        if self.seq_lens[batch_idx]:
            raise ValueError(f"row {batch_idx} holds {self.seq_lens[batch_idx]} tokens; clear it first")
        if k.shape != v.shape or k.ndim != 4 or (*k.shape[:2], k.shape[3]) != (layers, kv_heads, dim):
            raise ValueError(f"expected k and v [{layers}, {kv_heads}, n, {dim}], got {list(k.shape)}")
        if k.shape[2] > room:
            raise ValueError(f"{k.shape[2]} tokens do not fit, row {batch_idx} holds {room}")
        self._fill(batch_idx, k, v)
        self._set_length(batch_idx, k.shape[2])

    def clear(self, batch_idx: int | None = None) -> None:
        """Empty a row, or all rows when none is named."""
        if batch_idx is not None:
            self._check_row(batch_idx)
        for row in range(self.batch_size) if batch_idx is None else (batch_idx,):
            self._set_length(row, 0)

    def prepare(self, batch: FlatBatch) -> None:
        """Raise ValueError unless the batch's rows exist, continue what is cached, and fit."""
        for name, history, length in zip(batch.seq_ids, batch.history_lens, batch.seq_lens, strict=True):
            row = self._check_row(name)
            cached = min(lens[row] for lens in self._written)
            if history != cached:
                raise ValueError(f"row {row}: {cached} tokens are cached, the batch continues {history}")
            if length > self.max_seq_len:
                raise ValueError(f"row {row}: {length} tokens do not fit, it holds {self.max_seq_len}")
        rows = torch.tensor(batch.seq_ids, device=self.k.device)
        counts = torch.tensor(batch.query_lens, device=rows.device)
        # Told the size of the result, torch need not wait for the device to sum the counts.
        self._rows = rows.repeat_interleave(counts, output_size=batch.query_start_loc[-1])

    def attend(self, layer_idx: int, q: Tensor, k: Tensor, v: Tensor, batch: FlatBatch) -> Tensor:
        """Write the new tokens at their positions, then attend over each row's used part; copy nothing.

        Returns `[T, heads, head_dim]`.
        """
        if k.dtype != self.k.dtype:
            raise ValueError(f"the cache holds {self.k.dtype}, the model gives {k.dtype}")
        if self._rows is None:
            raise ValueError("attend comes after prepare")
        k_cache, v_cache = self.k[layer_idx], self.v[layer_idx]
        ops.write_kv_rows(k_cache, v_cache, k, v, self._rows, batch.positions)
        rows = [int(name) for name in batch.seq_ids]  # type: ignore[call-overload]  # prepare checked them
        return ops.attention_rows(
            q, k_cache, v_cache, rows, batch.query_start_loc, batch.seq_lens, q.shape[-1] ** -0.5
        )

    def layout(self, batch: FlatBatch) -> Layout | None:
        """Return where the rows are, each one long page; None for a subclass that attends in another way."""
        if type(self).attend is not KVCache.attend or self._rows is None:
            return None
        rows = torch.tensor(batch.seq_ids, dtype=torch.int32).unsqueeze(1)
        sequences = Sequences.of(rows, batch.query_start_loc, batch.seq_lens)
        return Layout(self.k, self.v, sequences, heads_first=True)

    def commit(self, batch: FlatBatch) -> None:
        """Set the new lengths of the batch's rows, once for all layers."""
        for name, length in zip(batch.seq_ids, batch.seq_lens, strict=True):
            self._set_length(int(name), length)  # type: ignore[call-overload]
        self._rows = None

    def _allocate(
        self, sizes: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Make the tensors that hold keys and values."""
        self.k = torch.zeros(sizes, dtype=dtype, device=device)
        self.v = torch.zeros_like(self.k)
        self._stored: tuple[Tensor, ...] = (self.k, self.v)

    def _fill(self, row: int, k: Tensor, v: Tensor) -> None:
        """Write the first tokens of a row in all layers, each `[layers, kv_heads, n, head_dim]`."""
        self.k[:, row, :, : k.shape[2]], self.v[:, row, :, : k.shape[2]] = k, v

    def _row(self, layer_idx: int, row: int) -> tuple[Tensor, Tensor]:
        """Return one layer's keys and values of one row, as far as they are written."""
        end = self._written[layer_idx][row]
        return self.k[layer_idx, row, :, :end], self.v[layer_idx, row, :, :end]

    def _set_length(self, row: int, length: int) -> None:
        """Give a row the same length in every layer."""
        for lens in self._written:
            lens[row] = length

    def _check_layer(self, layer_idx: int) -> None:
        """Raise ValueError for a layer that does not exist."""
        if not 0 <= layer_idx < self.num_layers:
            raise ValueError(f"there are layers 0 to {self.num_layers - 1}, got {layer_idx}")

    def _check_row(self, name: Hashable) -> int:
        """Return the row of that name; raise ValueError when there is none."""
        if not isinstance(name, int) or not 0 <= name < self.batch_size:
            raise ValueError(f"a sequence is named by its row, 0 to {self.batch_size - 1}, got {name!r}")
        return name

    def _checked(self, layer_idx: int, k: Tensor, v: Tensor, positions: Tensor) -> list[int]:
        """Return each row's first position; raise ValueError for input that `update` must not write."""
        self._check_layer(layer_idx)
        _, batch, kv_heads, _, dim = self.k.shape
        wanted = (batch, kv_heads, k.shape[2] if k.ndim == 4 else -1, dim)
        for name, given in (("k", k), ("v", v)):
            if tuple(given.shape) != wanted:
                raise ValueError(
                    f"{name}: expected [{batch}, {kv_heads}, n, {dim}] with one n, got {list(given.shape)}"
                )
            if given.dtype != self.dtype or given.device != self.k.device:
                raise ValueError(
                    f"{name}: the cache is {self.dtype} on {self.k.device}, "
                    f"got {given.dtype} on {given.device}"
                )
        return self._starts(layer_idx, k.shape[2], positions)

    def _starts(self, layer_idx: int, n: int, positions: Tensor) -> list[int]:
        """Return the first position of each row's `n` tokens.

        Raises ValueError unless the positions follow one another, leave no gap and fit.
        """
        if positions.is_floating_point() or positions.dtype == torch.bool:
            raise ValueError(f"positions are whole numbers, got {positions.dtype}")
        if n < 1 or tuple(positions.shape) != (self.batch_size, n):
            raise ValueError(f"expected positions [{self.batch_size}, {n}], got {list(positions.shape)}")
        for row, places in enumerate(positions.tolist()):
            end = self._written[layer_idx][row]
            if places != list(range(places[0], places[0] + n)):
                raise ValueError(f"row {row}: positions must follow one another, got {places}")
            if not 0 <= places[0] <= end:
                raise ValueError(f"row {row}: layer {layer_idx} holds {end} tokens, got position {places[0]}")
            if places[-1] >= self.max_seq_len:
                raise ValueError(f"row {row} holds {self.max_seq_len} tokens, got position {places[-1]}")
        return positions[:, 0].tolist()
