"""The block tables of one step, in the forms that attention over pages needs, made once for all layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class BlockTables:
    """Which pages hold each sequence's keys and values: `tables[i]` in order, the first `kv_lens[i]` tokens count."""

    def __init__(
        self,
        tables: Sequence[Sequence[int]],
        kv_lens: Sequence[int],
        page_size: int,
        device: torch.device | str = "cpu",
    ):
        """Raises ValueError for a table that has too few pages for its length."""
        if len(tables) != len(kv_lens):
            raise ValueError(f"{len(tables)} tables, {len(kv_lens)} lengths: expected as many of each")
        for table, length in zip(tables, kv_lens, strict=True):
            if length < 1 or len(table) * page_size < length:
                raise ValueError(f"{length} tokens do not lie in {len(table)} pages of {page_size}")
        self.kv_lens, self.page_size, self.device = list(kv_lens), page_size, torch.device(device)
        self.tables = [table[: -(-n // page_size)] for table, n in zip(tables, kv_lens, strict=True)]

    def __len__(self) -> int:
        """Sequences."""
        return len(self.tables)

    @cached_property
    def padded(self) -> Tensor:
        """All tables as one int32 matrix; what no sequence uses names page 0."""
        longest = max(len(table) for table in self.tables)
        rows = [[*table, *[0] * (longest - len(table))] for table in self.tables]
        return torch.tensor(rows, dtype=torch.int32, device=self.device)

    @cached_property
    def slots(self) -> Tensor:
        """Where every token lies, sequence after sequence: `[sum(kv_lens)]` int64."""
        parts = []
        for table, length in zip(self.tables, self.kv_lens, strict=True):
            places = torch.arange(length)
            parts.append(
                torch.tensor(table)[places // self.page_size] * self.page_size + places % self.page_size
            )
        return torch.cat(parts).to(self.device)

    @cached_property
    def neighbours(self) -> list[int | None]:
        """For each sequence whose pages lie side by side, its first slot; None for the others."""
        return [
            table[0] * self.page_size if list(table) == list(range(table[0], table[0] + len(table))) else None
            for table in self.tables
        ]

    @cached_property
    def scattered(self) -> Tensor:
        """The pages of the sequences whose pages do not, one sequence after the other: int64."""
        pages = [
            page
            for table, first in zip(self.tables, self.neighbours, strict=True)
            if first is None
            for page in table
        ]
        return torch.tensor(pages, dtype=torch.int64, device=self.device)
