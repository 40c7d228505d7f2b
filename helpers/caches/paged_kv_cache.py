"""A KV cache in pages of fixed size: pages are taken when tokens come, and equal beginnings are kept once.

PagedAttention (Kwon et al., arXiv:2309.06180). A page is a *block* in vLLM and in the names of operators.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from helpers.caches.packed_text import whole_number
from helpers.caches.page_pool import OutOfPages, PagePool
from helpers.caches.pages import Pages
from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache
from helpers.model.decoder import DecoderLM
from helpers.native.native_pass import Layout
from helpers.ops import by_device as ops
from helpers.ops.block_tables import BlockTables


class PagedKVCache(Pages, Cache):
    """Keys and values of any number of requests in one pool of pages.

    Two tensors hold them, each `[layers, pages, page_size, kv_heads, dim]`. `pool` keeps the accounts:
    tables, sharing, copy-on-write. A request is known by its name in `FlatBatch.seq_ids`.

    `allocate_request` announces a prompt: the request starts with the prompt's cached beginning. Bring the
    other tokens in one or more passes. A sequence that was not announced begins without tokens.
    """

    def __init__(
        self,
        num_layers: int,
        page_size: int = 16,
        num_pages: int = 256,
        num_kv_heads: int = 1,
        head_dim: int = 64,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        sharing: bool = True,
    ):
        """Make all pages free.

        Raises ValueError for a size under 1, a type that is no floating point, and pages that attention on
        this device does not read.
        """
        sizes = (num_layers, num_pages, page_size, num_kv_heads, head_dim)
        if min(sizes) < 1:
            raise ValueError(
                f"every size must be 1 or more, got {sizes} (layers, pages, page size, KV heads, dim)"
            )
        if not dtype.is_floating_point:
            raise ValueError(f"keys and values are floating-point numbers, got {dtype}")
        super().__init__(PagePool(num_pages, page_size, sharing))
        self.dtype = dtype
        self._allocate(sizes, dtype, device)
        self._own: dict[int, Hashable] = {}  # pages given out singly, and the names they have in the pool
        self._step: tuple[Hashable, ...] = ()  # requests of the pass that has begun
        # Requests whose next tokens have pages already, with their lengths.
        self._reserved: dict[Hashable, int] = {}
        self._slots: Tensor | None = None
        self._tables: BlockTables | None = None

    @classmethod
    def for_model(
        cls, model: DecoderLM, num_pages: int, page_size: int = 16, sharing: bool = True
    ) -> PagedKVCache:
        """Return a cache of the model's sizes, in its type, on its device."""
        cfg = model.cfg
        return cls(
            cfg.num_layers, page_size, num_pages, cfg.num_kv_heads, cfg.head_dim,
            model.dtype, model.device, sharing,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of the whole pool, used or not."""
        return sum(tensor.nbytes for tensor in self._stored)

    def allocate_page(self) -> int:
        """Take a page for the caller's own use, until `free_page`; return its number.

        Raises OutOfPages when no page is free.
        """
        name = ("page", object())
        self.pool.admit(name, [])
        try:
            self.pool.append_anonymous(name, self.page_size)
        except OutOfPages:
            self.pool.free(name)
            raise
        self.pool.confirm(name)
        page = self.pool.table(name)[0]
        self._own[page] = name
        return page

    def free_page(self, page: int) -> None:
        """Give back a page of `allocate_page`. Raises ValueError for any other."""
        if page not in self._own:
            raise ValueError(f"page {page} was not given out by allocate_page, or is free already")
        self.pool.free(self._own.pop(page))

    def allocate_request(
        self, request_id: Hashable, initial_length: int | Sequence[int], salt: Hashable = None
    ) -> int:
        """Begin a request; return the number of its tokens that are cached already.

        `initial_length` is a number of tokens, or the prompt's token ids. For a number, pages are taken at
        once. For token ids, the cached beginning is shared, and the next pass starts behind that beginning.

        Raises ValueError for a request that is here already, and OutOfPages, before anything changes.
        """
        if not isinstance(initial_length, int) and hasattr(initial_length, "__len__"):
            return self.pool.admit(request_id, initial_length, salt)
        initial_length = whole_number(initial_length, "initial_length")
        self.pool.admit(request_id, [], salt)
        try:
            self.append_tokens(request_id, initial_length)
        except ValueError:
            self.pool.free(request_id)
            raise
        return 0

    def append_tokens(self, request_id: Hashable, num_tokens: int) -> None:
        """Take pages for more tokens of a request, to be filled by `write`.

        The tokens follow the request's last token, not the end of its last page. Raises OutOfPages.
        """
        self._copy(self.pool.append_anonymous(request_id, num_tokens))
        self.pool.confirm(request_id)

    def write(self, request_id: Hashable, layer_idx: int, k: Tensor, v: Tensor, start: int) -> None:
        """Write one layer's keys and values of a request's tokens from `start` on, by hand.

        `k` and `v` are `[n, kv_heads, head_dim]`. Raises ValueError, before anything is written, for tokens
        beyond the request's length and for a page that another request shares.
        """
        stop = start + len(k)
        if k.shape != v.shape or k.shape[1:] != self.k.shape[3:]:
            raise ValueError(
                f"expected k and v [n, {self.k.shape[3]}, {self.k.shape[4]}], got {list(k.shape)}"
            )
        if not 0 <= start <= stop <= self.pool.length(request_id):
            raise ValueError(
                f"{request_id!r} has {self.pool.length(request_id)} tokens, got {start} to {stop}"
            )
        places = self.pool.slots(request_id, start, stop)
        others = [self.pool.table(name) for name in self.pool.requests if name != request_id]
        if {slot // self.page_size for slot in places} & {page for table in others for page in table}:
            raise ValueError(
                f"tokens {start} to {stop} of {request_id!r} lie in a page that another request shares"
            )
        slots = torch.tensor(places, dtype=torch.int64, device=self.k.device)
        self._store(layer_idx, k, v, slots)

    def get_kv(self, request_id: Hashable, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Return one layer's keys and values of a request, each `[length, kv_heads, head_dim]`.

        They are collected from the request's pages. Raises ValueError for an unknown request or layer.
        """
        if not 0 <= layer_idx < len(self.k):
            raise ValueError(f"there are layers 0 to {len(self.k) - 1}, got {layer_idx}")
        slots = torch.tensor(
            self.pool.slots(request_id, 0, self.pool.length(request_id)),
            dtype=torch.int64,
            device=self.k.device,
        )
        return self._read(layer_idx, slots)

    def reserve(self, request_id: Hashable, tokens: Sequence[int]) -> None:
        """Take pages for tokens that the next pass will bring. Raises OutOfPages before anything changes.

        A prompt that is admitted after this call may share these pages already. This is for a scheduler that
        composes a pass request by request. `prepare` takes the pages of the other requests.
        """
        self._copy(self.pool.append(request_id, tokens))
        self._reserved[request_id] = self.pool.length(request_id)

    def abandon(self) -> None:
        """Give up the pass that was reserved for or prepared, and take its tokens back.

        Ask for lengths afterwards.
        """
        names = [name for name in (*self._step, *self._reserved) if name in self.pool.requests]
        self.pool.rollback(*names)
        self._step, self._reserved = (), {}

    def prepare(self, batch: FlatBatch) -> None:
        """Take pages for all new tokens, or for none.

        Raises ValueError (OutOfPages when pages are short) before anything changes.
        """
        if self._step:
            self.abandon()
        self._check(batch)
        here = [name for name in batch.seq_ids if name in self.pool.requests]
        self.pool.check_together(here)
        new = [name for name in batch.seq_ids if name not in self.pool.requests]
        for name in new:
            self.pool.admit(name, [])
        try:
            for name, tokens in zip(batch.seq_ids, batch.new_tokens, strict=True):
                if name not in self._reserved:
                    self._copy(self.pool.append(name, tokens))
        except ValueError:
            self.pool.rollback(*(name for name in batch.seq_ids if name not in self._reserved))
            for name in new:
                self.pool.free(name)
            raise
        self._step, self._reserved = batch.seq_ids, {}
        self._place(batch)

    def attend(self, layer_idx: int, q: Tensor, k: Tensor, v: Tensor, batch: FlatBatch) -> Tensor:
        """Write the new tokens of all sequences, then attend; return `[T, heads, head_dim]`.

        The order matters: a sequence may share a page that another sequence fills in the same step.
        """
        if k.dtype != self.k.dtype:
            raise ValueError(f"the cache holds {self.k.dtype}, the model gives {k.dtype}")
        if self._slots is None or self._tables is None:
            raise ValueError("attend comes after prepare")
        k_cache, v_cache = self.k[layer_idx], self.v[layer_idx]
        ops.write_kv_pages(k_cache, v_cache, k, v, self._slots)
        return ops.attention_pages(
            q, k_cache, v_cache, self._tables, batch.query_start_loc, q.shape[-1] ** -0.5
        )

    def layout(self, batch: FlatBatch) -> Layout | None:
        """Return where the pages are; None for a subclass that attends in another way."""
        if type(self).attend is not PagedKVCache.attend or self._tables is None:
            return None
        return Layout(self.k, self.v, self._tables.native(batch.query_start_loc), heads_first=False)

    def commit(self, batch: FlatBatch) -> None:
        """Count the new tokens; their full pages may be shared from now on."""
        self.pool.confirm(*batch.seq_ids)
        self._step, self._slots, self._tables = (), None, None

    def _allocate(
        self, sizes: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Make the tensors that hold keys and values; a page is an element of each one's second dimension."""
        self.k = torch.zeros(sizes, dtype=dtype, device=device)
        ops.check_pages(self.k)
        self.v = torch.zeros_like(self.k)
        self._stored: tuple[Tensor, ...] = (self.k, self.v)

    def _store(self, layer_idx: int, k: Tensor, v: Tensor, slots: Tensor) -> None:
        """Write keys and values of one layer, each `[n, kv_heads, head_dim]`, to slots."""
        ops.write_kv_pages(self.k[layer_idx], self.v[layer_idx], k, v, slots)

    def _read(self, layer_idx: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return what one layer holds in slots, each `[n, kv_heads, head_dim]`."""
        return self.k[layer_idx].flatten(0, 1)[slots], self.v[layer_idx].flatten(0, 1)[slots]

    def _check(self, batch: FlatBatch) -> None:
        """Raise ValueError unless every sequence continues what is cached of it."""
        for name, history, length in zip(batch.seq_ids, batch.history_lens, batch.seq_lens, strict=True):
            cached = self.pool.length(name) if name in self.pool.requests else 0
            if name in self._reserved:
                if cached != self._reserved[name] or cached != length:
                    raise ValueError(
                        f"request {name!r}: {cached} tokens were reserved, the batch brings it to {length}"
                    )
            elif history != cached:
                raise ValueError(
                    f"request {name!r}: {cached} tokens are cached, the batch continues {history}"
                )

    def _place(self, batch: FlatBatch) -> None:
        """Compute, once for all layers, the slots of the new tokens and the tables of all sequences."""
        slots = []
        for name, history, length in zip(batch.seq_ids, batch.history_lens, batch.seq_lens, strict=True):
            slots += self.pool.slots(name, history, length)
        self._slots = torch.tensor(slots, device=self.k.device)
        tables = [self.pool.table(name) for name in batch.seq_ids]
        self._tables = BlockTables(tables, batch.seq_lens, self.page_size, self.k.device)

    def _copy(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy pages in all layers: copy-on-write."""
        if copies:
            source, target = (torch.tensor(side, device=self.k.device) for side in zip(*copies, strict=True))
            for tensor in self._stored:
                tensor[:, target] = tensor[:, source]
