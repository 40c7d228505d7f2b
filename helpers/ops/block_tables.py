"""The block tables of one step, in the forms that attention over pages needs, made once for all layers.

A block is the operators' word for a page of keys and values. A slot is `page * page_size + offset`, where one
token is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from helpers.native.page_attention import Sequences
from helpers.ops.decode_rows import Family, families


class BlockTables:
    """The pages of each sequence's keys and values: `tables[i]`, whose first `kv_lens[i]` tokens count."""

    def __init__(
        self,
        tables: Sequence[Sequence[int]],
        kv_lens: Sequence[int],
        page_size: int,
        device: torch.device | str = "cpu",
    ):
        """Keep the pages that each sequence uses, `-(-kv_lens[i] // page_size)` of `tables[i]`.

        Raises ValueError for a table that has too few pages for its length, a length under 1, and counts that
        differ.
        """
        if len(tables) != len(kv_lens):
            raise ValueError(f"{len(tables)} tables, {len(kv_lens)} lengths: expected as many of each")
        for table, length in zip(tables, kv_lens, strict=True):
            if length < 1 or len(table) * page_size < length:
                raise ValueError(f"{length} tokens do not lie in {len(table)} pages of {page_size}")
        self.kv_lens, self.page_size, self.device = list(kv_lens), page_size, torch.device(device)
        self.tables = [table[: -(-n // page_size)] for table, n in zip(tables, kv_lens, strict=True)]
        self._native: tuple[tuple[int, ...], Sequences] | None = None
        self._split: tuple[tuple[int, ...], list[int], list[Family]] | None = None

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.tables)

    @cached_property
    def padded(self) -> Tensor:
        """Return all tables as one int32 matrix `[sequences, most pages]`; unused cells hold page 0."""
        longest = max(len(table) for table in self.tables)
        rows = [[*table, *[0] * (longest - len(table))] for table in self.tables]
        return torch.tensor(rows, dtype=torch.int32, device=self.device)

    @cached_property
    def slots(self) -> Tensor:
        """Return the slot of every token, sequence after sequence: int64 `[sum(kv_lens)]`."""
        parts = []
        for table, length in zip(self.tables, self.kv_lens, strict=True):
            tokens = torch.arange(length)
            pages = torch.tensor(table)[tokens // self.page_size]
            parts.append(pages * self.page_size + tokens % self.page_size)
        return torch.cat(parts).to(self.device)

    @cached_property
    def neighbours(self) -> list[int | None]:
        """Return each sequence's first slot where its pages are consecutive; None for the other sequences."""
        return [
            table[0] * self.page_size if list(table) == list(range(table[0], table[0] + len(table))) else None
            for table in self.tables
        ]

    @cached_property
    def pages(self) -> list[Tensor]:
        """Return each sequence's pages as an int64 tensor."""
        return [torch.tensor(table, dtype=torch.int64, device=self.device) for table in self.tables]

    def native(self, q_start: tuple[int, ...]) -> Sequences:
        """Return the sequences as the C++ kernel wants them; `q_start` is that of `attention_pages`."""
        if self._native is None or self._native[0] != q_start:
            self._native = q_start, Sequences.of(self.padded, q_start, self.kv_lens)
        return self._native[1]

    def split(self, q_start: Sequence[int]) -> tuple[list[int], list[Family]]:
        """Return the sequences that attend alone, and the families of the others.


        `q_start` is that of `attention_pages`. A sequence with several new tokens attends alone. So does a
        sequence with consecutive pages: the sequence's keys are read where they are.
        """
        if self._split is None or self._split[0] != tuple(q_start):
            single = [b - a == 1 for a, b in pairwise(q_start)]
            together = [i for i, first in enumerate(self.neighbours) if first is None and single[i]]
            tables, lens = [self.tables[i] for i in together], [self.kv_lens[i] for i in together]
            rows = [q_start[i] for i in together]
            # Two parts are merged by their log-sum-exps, which only the operator for CPUs gives.
            share = self.device.type == "cpu"
            found = families(tables, lens, rows, self.page_size, share) if together else []
            alone = [i for i in range(len(self)) if i not in set(together)]
            self._split = (tuple(q_start), alone, [family.to(self.device) for family in found])
        return self._split[1:]
