"""Prefix reuse: keys and values of earlier texts are kept for later ones.

A new text starts from its longest known beginning.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from helpers.caches.kv_cache import KVCache
from helpers.caches.prefix_store import PrefixStore, ReuseStats
from helpers.caches.radix_node import Node
from helpers.caches.radix_tree import Match, RadixTree
from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM
from helpers.model.generation import Generation, generate


@dataclass(frozen=True)
class _Live:
    """A prefix in use: a row of its own, and the node that is pinned for it."""

    row: KVCache
    node: Node


class KVCacheReuse:
    """A store of pages with the keys and values of texts, found through a radix tree.

    Stored pages are never written again. A request gets a *copy* of what it reuses, in a row of its own. So
    nothing that the request appends can leak into a text that others share. Pages in use are pinned and not
    evicted.

    After every call `free + evictable + pinned == capacity` holds, counted in pages.
    """

    def __init__(self, model: DecoderLM, capacity: int = 4096, page_size: int = 16, policy: str = "lru"):
        """Make an empty store of `capacity` tokens, in whole pages.

        Raises ValueError for less than one page and for an unknown policy.
        """
        cfg, self.model, self.store = model.cfg, model, PrefixStore(capacity, page_size, policy)
        size = (cfg.num_layers, self.store.capacity, cfg.num_kv_heads, page_size, cfg.head_dim)
        self._k, self._v = (torch.zeros(size, dtype=model.dtype, device=model.device) for _ in "kv")
        self._live: dict[int, _Live] = {}
        self._next_id = 0

    @property
    def tree(self) -> RadixTree:
        """Which texts are stored."""
        return self.store.tree

    @property
    def stats(self) -> ReuseStats:
        """What has been asked and saved so far."""
        return self.store.stats

    def get_or_create_cache(
        self, prefix: Sequence[int], salt: Hashable = None, room: int = 128
    ) -> tuple[int, int]:
        """Return `(cache id, reused)`: an id for the prefix's keys and values, and its known tokens.

        The other tokens are computed and stored. The prefix stays pinned until `release`. Only texts of equal
        `salt` are shared. The row that `get` returns has `room` for so many tokens behind the prefix. Raises
        ValueError for an empty prefix and a room below 0.
        """
        if not prefix:
            raise ValueError("the prefix is empty; give at least one token")
        if room < 0:
            raise ValueError(f"the room behind the prefix must be 0 tokens or more, got {room}")
        row = KVCache.for_model(self.model, 1, len(prefix) + room)
        with self.store.using(prefix, salt) as found:
            self._restore(row, found)
            if found.num_tokens < len(prefix):
                new = FlatBatch.pack([prefix[found.num_tokens :]], [found.num_tokens], device=row.k.device)
                self.model(new, row)
            stored = self.store.keep(prefix, salt, partial(self._write, row))
            self.tree.pin(stored)
        self._next_id += 1
        self._live[self._next_id] = _Live(row, stored)
        self.store.count(len(prefix), found.num_tokens)
        return self._next_id, found.num_tokens

    def get(self, cache_id: int) -> KVCache:
        """Return the cache behind an id of `get_or_create_cache`; its only row is number 0.

        The row belongs to the caller, who may write behind the prefix. Raises ValueError for an id that is
        not in use.
        """
        return self._of(cache_id).row

    def reset(self) -> None:
        """Forget every stored text, as after a change of weights. Raises ValueError while an id is in use."""
        self.store.reset()

    def release(self, cache_id: int) -> None:
        """Give an id back; from now on the pages pinned for it may be evicted.

        Raises ValueError for an id that is not in use.
        """
        self.tree.unpin(self._of(cache_id).node)
        del self._live[cache_id]

    def generate_with_reuse(
        self,
        model: DecoderLM,
        prefix: Sequence[int],
        continuation: Sequence[int],
        max_new_tokens: int = 32,
        stop_ids: Sequence[int] = (),
        salt: Hashable = None,
    ) -> Generation:
        """Return the greedy answer to `prefix` and `continuation`, from the longest cached beginning.

        The text and the answer are stored for later requests. `tokens_computed` of the result counts the
        tokens that were not reused. The last token is always computed: its logits choose the first new one.

        Raises ValueError for another model than the store's, for an empty text, and as `generate` does.
        """
        if model is not self.model:
            raise ValueError("these keys and values are another model's")
        text = [*prefix, *continuation]
        if not text:
            raise ValueError("prefix and continuation are empty; give at least one token")
        row = KVCache.for_model(model, 1, len(text) + max(max_new_tokens, 1))
        with self.store.using(text[:-1], salt) as found:
            self._restore(row, found)
            result = generate(model, text, max_new_tokens, row, stop_ids, cached=found.num_tokens)
            self.store.keep([*text, *result.token_ids[:-1]], salt, partial(self._write, row))
        self.store.count(len(text), found.num_tokens)
        return result

    def _restore(self, row: KVCache, found: Match) -> None:
        """Copy what is known of a text into an empty row."""
        if found.pages:
            row.restore(0, *(self._read(store, found.pages) for store in (self._k, self._v)))

    def _read(self, store: Tensor, pages: Sequence[int]) -> Tensor:
        """Return pages of a store as one text `[layers, kv_heads, n, head_dim]`."""
        index = torch.tensor(pages, device=store.device)
        return store[:, index].transpose(1, 2).flatten(2, 3)

    def _write(self, row: KVCache, pages: Sequence[int], start: int) -> None:
        """Copy a row's tokens from `start` on into pages."""
        index = torch.tensor(pages, device=self._k.device)
        stop = start + len(pages) * self.tree.page_size
        for store, source in ((self._k, row.k), (self._v, row.v)):
            text = source[:, 0, :, start:stop]
            layers, kv_heads, _, dim = text.shape
            by_page = text.reshape(layers, kv_heads, len(pages), self.tree.page_size, dim)
            store[:, index] = by_page.transpose(1, 2)

    def _of(self, cache_id: int) -> _Live:
        """Return the prefix in use behind an id; raise ValueError for an id that is not in use."""
        if cache_id not in self._live:
            raise ValueError(f"no cache has the id {cache_id!r}; it was released, or never given")
        return self._live[cache_id]
