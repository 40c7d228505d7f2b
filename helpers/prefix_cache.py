"""Prefix reuse: keys and values of earlier texts are kept, and a new text starts from the longest beginning that is known."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.batch import FlatBatch
from helpers.generation import Generation, generate
from helpers.kv_cache import KVCache
from helpers.model import DecoderLM
from helpers.radix_tree import Node, RadixTree


@dataclass(frozen=True)
class ReuseStats:
    """What reuse has saved so far, in tokens."""

    requests: int
    prompt_tokens: int
    """Tokens of all prompts."""
    reused_tokens: int
    """Those of them that were found cached, and not computed again."""

    @property
    def hit_rate(self) -> float:
        """The reused share of the prompts' tokens; 0 before the first."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


@dataclass(frozen=True)
class _Live:
    """A prefix that somebody works with: a row of its own, and the pin of what it came from."""

    tokens: tuple[int, ...]
    salt: Hashable
    row: KVCache
    node: Node


class KVCacheReuse:
    """A store of pages with the keys and values of texts, found through a radix tree.

    Stored pages are never written again: a request gets a *copy* of what it reuses in a row of its own, so that whatever it
    appends cannot leak into a text that others share. What is in use is pinned and not evicted. After every call
    `free + evictable + pinned == capacity` holds, counted in pages.
    """

    def __init__(self, model: DecoderLM, capacity: int = 4096, page_size: int = 16, policy: str = "lru"):
        """A store of `capacity` tokens, in whole pages. Raises ValueError when that is not one page, and for an unknown policy."""
        self.tree = RadixTree(page_size, policy)
        if capacity < page_size:
            raise ValueError(f"the capacity must be a page of {page_size} tokens or more, got {capacity}")
        cfg, self.model, self.capacity = model.cfg, model, capacity // page_size
        size = (cfg.num_layers, self.capacity, cfg.num_kv_heads, page_size, cfg.head_dim)
        self._k, self._v = (torch.zeros(size, dtype=model.dtype, device=model.device) for _ in "kv")
        self._free = list(range(self.capacity))
        self._live: dict[int, _Live] = {}
        self._next_id = self._requests = self._prompt_tokens = self._reused_tokens = 0

    @property
    def free(self) -> int:
        """Pages that hold nothing."""
        return len(self._free)

    @property
    def stats(self) -> ReuseStats:
        """What has been asked and saved so far."""
        return ReuseStats(self._requests, self._prompt_tokens, self._reused_tokens)

    def get_or_create_cache(self, prefix: Sequence[int], salt: Hashable = None) -> tuple[int, int]:
        """`(cache id, reused)`: the prefix's keys and values, ready under that id, and how many of its tokens were known.

        The rest is computed and stored. The prefix stays pinned until `release`. Only texts of equal `salt` are shared.
        Raises ValueError for an empty prefix.
        """
        if not prefix:
            raise ValueError("the prefix is empty; give at least one token")
        row = KVCache.for_model(self.model, 1, len(prefix))
        reused, node = self._begin(prefix, salt, row)
        try:
            if reused < len(prefix):
                self.model(FlatBatch.pack([prefix[reused:]], [reused]), row)
            stored = self._keep(prefix, row, salt)
            self.tree.pin(stored)
        finally:
            self.tree.unpin(node)
        self._next_id += 1
        self._live[self._next_id] = _Live(tuple(prefix), salt, row, stored)
        self._count(len(prefix), reused)
        return self._next_id, reused

    def get(self, cache_id: int) -> KVCache:
        """The row (number 0) behind an id of `get_or_create_cache`: the caller's own, free to be written behind the prefix."""
        return self._of(cache_id).row

    def release(self, cache_id: int) -> None:
        """Gives an id back; what it pinned may be evicted from now on. ValueError for an id that is not in use."""
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
        """The greedy answer to `prefix` followed by `continuation`, from the longest beginning that is cached.

        All of it and the answer are stored for later requests. `tokens_computed` of the result counts what was not reused.
        The last token is always computed: its logits choose the first new one. Raises ValueError for another model than
        the store's, an empty text, or as `generate` does.
        """
        if model is not self.model:
            raise ValueError("these keys and values are another model's")
        text = [*prefix, *continuation]
        if not text:
            raise ValueError("prefix and continuation are empty; give at least one token")
        row = KVCache.for_model(model, 1, len(text) + max(max_new_tokens, 1))
        reused, node = self._begin(text[:-1], salt, row)
        try:
            result = generate(model, text, max_new_tokens, row, stop_ids, cached=reused)
            self._keep([*text, *result.token_ids[:-1]], row, salt)
        finally:
            self.tree.unpin(node)
        self._count(len(text), reused)
        return result

    def _begin(self, tokens: Sequence[int], salt: Hashable, row: KVCache) -> tuple[int, Node]:
        """Copies what is known of a text into an empty row: its length, and the node that is pinned for it."""
        found = self.tree.match(tokens, salt)
        self.tree.pin(found.node)
        if found.pages:
            row.restore(0, *(self._read(store, found.pages) for store in (self._k, self._v)))
        return found.num_tokens, found.node

    def _keep(self, tokens: Sequence[int], row: KVCache, salt: Hashable) -> Node:
        """Stores a row's whole pages as far as they are new and find room; the node where what is stored ends."""
        size, found = self.tree.page_size, self.tree.match(tokens, salt)
        self.tree.pin(found.node)  # making room must not take it
        try:
            missing = len(tokens) // size - len(found.pages)
            if missing > self.free:
                self._free += self.tree.evict(missing - self.free)
            new = [self._free.pop() for _ in range(min(missing, self.free))]
            pages = [*found.pages, *new]
            self._write(new, row, found.num_tokens)
            return self.tree.insert(tokens[: len(pages) * size], pages, salt).node
        finally:
            self.tree.unpin(found.node)

    def _read(self, store: Tensor, pages: Sequence[int]) -> Tensor:
        """Pages as one text `[layers, kv_heads, n, head_dim]`."""
        index = torch.tensor(pages, device=store.device)
        return store[:, index].transpose(1, 2).flatten(2, 3)

    def _write(self, pages: Sequence[int], row: KVCache, start: int) -> None:
        """Copies a row's tokens from `start` on into pages."""
        if not pages:
            return
        index = torch.tensor(pages, device=self._k.device)
        stop = start + len(pages) * self.tree.page_size
        for store, source in ((self._k, row.k), (self._v, row.v)):
            text = source[:, 0, :, start:stop]
            layers, kv_heads, _, dim = text.shape
            by_page = text.reshape(layers, kv_heads, len(pages), self.tree.page_size, dim)
            store[:, index] = by_page.transpose(1, 2)

    def _count(self, prompt_tokens: int, reused: int) -> None:
        """Adds a request to the statistics."""
        self._requests += 1
        self._prompt_tokens += prompt_tokens
        self._reused_tokens += reused

    def _of(self, cache_id: int) -> _Live:
        """What an id stands for; ValueError for one that is not in use."""
        if cache_id not in self._live:
            raise ValueError(f"no cache has the id {cache_id!r}; it was released, or never given")
        return self._live[cache_id]
