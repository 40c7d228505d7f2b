"""The tiles of an attention: which keys a query sees, and which blocks of scores must be computed.

The last query sees the last key: the mask is aligned at the lower right. So a chunk of a text, a decode step
and a whole prompt are one case. With more queries than keys, the first queries see no key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["skipped", "masked", "full"]


class Tile(NamedTuple):
    """Describe a block of scores: queries `q_start` to `q_end`, keys `k_start` to `k_end`, ends excluded."""

    q_start: int
    q_end: int
    k_start: int
    k_end: int
    kind: Kind
    """`skipped`: no query sees a key; `masked`: some queries miss some keys; `full`: every query sees every
    key."""


@dataclass(frozen=True)
class Visibility:
    """Tell which of `kv_len` keys each of `q_len` queries sees: a span that moves on by one key per query.

    Query `i` stands at position `i + kv_len - q_len`. `causal`: a query sees no key after its own position.
    `window`: a query sees keys less than `window` positions away; its own position counts. A causal window of
    1 is the key at the query's own position alone.
    """

    q_len: int
    kv_len: int
    causal: bool = True
    window: int | None = None

    def first(self, query: int) -> int:
        """Return the first key that the query sees."""
        position = query + self.kv_len - self.q_len
        return self._clip(position - self.window + 1) if self.window is not None else 0

    def end(self, query: int) -> int:
        """Return the end (excluded) of the keys that the query sees; not above `first` without a seen key."""
        position = query + self.kv_len - self.q_len
        if self.causal:
            return self._clip(position + 1)
        return self._clip(position + self.window) if self.window is not None else self.kv_len

    def kind(self, q_start: int, q_end: int, k_start: int, k_end: int) -> Kind:
        """Return the kind of the tile of these queries and keys."""
        if k_end <= self.first(q_start) or k_start >= self.end(q_end - 1):
            return "skipped"
        whole = k_start >= self.first(q_end - 1) and k_end <= self.end(q_start)
        return "full" if whole else "masked"

    def clip(self, tile: Tile) -> Tile:
        """Return the tile cut to the keys that its queries see; other keys need not be read."""
        start, end = max(tile.k_start, self.first(tile.q_start)), min(tile.k_end, self.end(tile.q_end - 1))
        end = max(start, end)
        return Tile(tile.q_start, tile.q_end, start, end, self.kind(tile.q_start, tile.q_end, start, end))

    def hidden(self, tile: Tile, device: torch.device) -> Tensor:
        """Return bool `[queries, keys]` of the tile, True where a query does not see a key."""
        positions = torch.arange(tile.q_start, tile.q_end, device=device)[:, None] + self.kv_len - self.q_len
        keys = torch.arange(tile.k_start, tile.k_end, device=device)
        hidden = keys > positions
        if not self.causal:
            hidden = keys >= positions + (self.window or self.q_len + self.kv_len)
        return hidden if self.window is None else hidden.logical_or_(keys <= positions - self.window)

    def _clip(self, key: int) -> int:
        """Return the key's number, moved into the range of keys."""
        return min(max(key, 0), self.kv_len)


@dataclass(frozen=True)
class Tiling:
    """Cut scores into blocks of `query_block` queries by `key_block` keys; the last blocks may be shorter."""

    query_block: int
    key_block: int

    def __post_init__(self) -> None:
        """Raise ValueError for a block size that is not a positive whole number."""
        for name in ("query_block", "key_block"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} is a whole number from 1, got {size!r}")

    def query_tiles(self, q_len: int) -> Iterator[tuple[int, int]]:
        """Yield start and end of each block of queries."""
        for start in range(0, q_len, self.query_block):
            yield start, min(start + self.query_block, q_len)

    def visited(
        self, seen: Visibility, q_start: int, q_end: int, keys: tuple[int, int] | None = None
    ) -> Iterator[Tile]:
        """Yield the tiles of one block of queries that must be computed, left to right, cut to seen keys.

        `keys`: the range (start, end) of keys to visit; all keys if None. Skipped tiles are never looked at.
        So the time for a narrow window does not grow with the length of the text.
        """
        low, high = keys or (0, seen.kv_len)
        first, end = max(seen.first(q_start), low), min(seen.end(q_end - 1), high)
        if first >= end:
            return
        for start in range(first - (first - low) % self.key_block, end, self.key_block):
            yield seen.clip(Tile(q_start, q_end, start, min(start + self.key_block, high), "masked"))

    def num_visited(self, seen: Visibility, q_start: int, q_end: int) -> int:
        """Return how many tiles `visited` yields for these queries, without a look at each tile."""
        return self._between(seen.first(q_start), seen.end(q_end - 1), seen, whole=False)

    def row(self, seen: Visibility, q_start: int, q_end: int) -> Iterator[Tile]:
        """Yield all tiles of one block of queries from left to right, skipped tiles included."""
        for start in range(0, seen.kv_len, self.key_block):
            stop = min(start + self.key_block, seen.kv_len)
            yield Tile(q_start, q_end, start, stop, seen.kind(q_start, q_end, start, stop))

    def all_tiles(self, seen: Visibility) -> Iterator[Tile]:
        """Yield all tiles in the order of computation, skipped tiles included."""
        for q_start, q_end in self.query_tiles(seen.q_len):
            yield from self.row(seen, q_start, q_end)

    def count(self, seen: Visibility) -> dict[Kind, int]:
        """Return how many tiles are of each kind; the time grows with the blocks of queries alone."""
        across = math.ceil(seen.kv_len / self.key_block)
        counts: dict[Kind, int] = {"skipped": 0, "masked": 0, "full": 0}
        for q_start, q_end in self.query_tiles(seen.q_len):
            computed = self.num_visited(seen, q_start, q_end)
            full = self._between(seen.first(q_end - 1), seen.end(q_start), seen, whole=True)
            counts["full"] += full
            counts["masked"] += computed - full
            counts["skipped"] += across - computed
        return counts

    def _between(self, first: int, end: int, seen: Visibility, *, whole: bool) -> int:
        """Return how many blocks of keys lie in `first` to `end`.

        Blocks lie there wholly if `whole`, otherwise with at least one key.
        """
        if end <= first:
            return 0
        if not whole:
            return math.ceil(end / self.key_block) - first // self.key_block
        last = math.ceil(end / self.key_block) if end == seen.kv_len else end // self.key_block
        return max(0, last - math.ceil(first / self.key_block))
