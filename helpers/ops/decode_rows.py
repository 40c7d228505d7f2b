"""The sequences of a step that attend together: one new token each, a common beginning, similar lengths.

A sequence's one query is a row of the batch's queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor

WORTH = 512
"""Tokens whose reading must be saved before a common beginning is read once for all its sequences."""


class LikeLengths(NamedTuple):
    """Rows of a family with similar lengths; a row's own tokens are padded to the longest row's, `L`."""

    slots: Tensor
    """Slots of the tokens, row after row: int64 `[n, L]`; padding repeats the row's first slot."""
    mask: Tensor | None
    """fp32 `[n, 1, 1, L]`, 0 for a token and minus infinity for padding; None where nothing is padded."""


class Family(NamedTuple):
    """Sequences with one new token each: all begin with the same pages, or no page is shared."""

    rows: Tensor
    """Indices of the sequences' queries in the batch, the longest sequence first: int64 `[n]`."""
    shared: Tensor | None
    """Slots of the common beginning, int64; None where no page is shared."""
    parts: list[LikeLengths]
    """The tokens after the common beginning, in the order of the rows."""

    def to(self, device: torch.device) -> Family:
        """Return the family with its tensors on `device`."""
        parts = [LikeLengths(s.to(device), None if m is None else m.to(device)) for s, m in self.parts]
        shared = None if self.shared is None else self.shared.to(device)
        return Family(self.rows.to(device), shared, parts)


def families(
    tables: Sequence[Sequence[int]], lens: Sequence[int], rows: Sequence[int], page_size: int, share: bool
) -> list[Family]:
    """Return the families of sequences with these tables and lengths in tokens.

    `rows[i]` is the index of sequence `i`'s query in the batch. Without `share` all sequences are one family,
    which has no common beginning.
    """
    found = []
    for members, common in _related(tables, lens, page_size) if share else [(list(range(len(rows))), 0)]:
        skipped = common * page_size
        members.sort(key=lambda i: -lens[i])
        parts = [
            _part([tables[i][common:] for i in like], [lens[i] - skipped for i in like], page_size)
            for like in _alike(members, [n - skipped for n in lens])
        ]
        beginning = _slots(torch.tensor(tables[members[0]][:common]), page_size) if common else None
        found.append(Family(torch.tensor([rows[i] for i in members]), beginning, parts))
    return found


def _related(
    tables: Sequence[Sequence[int]], lens: Sequence[int], page_size: int
) -> Iterator[tuple[list[int], int]]:
    """Yield sequences that begin alike and the number of their common pages, then all other sequences and 0.

    A common beginning counts only where enough reading is saved (`WORTH`).
    """
    by_first: dict[int, list[int]] = {}
    for i, table in enumerate(tables):
        by_first.setdefault(table[0], []).append(i)
    others = []
    for members in by_first.values():
        beginnings = [tuple(tables[i]) for i in members]
        ends = (min(beginnings), max(beginnings))  # in sorted order these two have the fewest pages in common
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False)))
        common = min(
            common, (min(lens[i] for i in members) - 1) // page_size
        )  # a token must be left for each row
        if common * page_size * (len(members) - 1) >= WORTH:
            yield members, common
        else:
            others += members
    if others:
        yield others, 0


def _alike(members: Sequence[int], lens: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of the members, which come longest first, so that padding costs less than another call.

    A group ends before a member that is shorter than the group's longest by more than a quarter and by more
    than 64.
    """
    group: list[int] = []
    for i in members:
        if group and lens[i] < min(0.75 * lens[group[0]], lens[group[0]] - 64):
            yield group
            group = []
        group.append(i)
    yield group


def _part(tables: list[Sequence[int]], lens: list[int], page_size: int) -> LikeLengths:
    """Return the slots and the mask of sequences of similar lengths, the longest first."""
    longest, width = lens[0], len(tables[0])
    pages = torch.tensor([[*table, *[0] * (width - len(table))] for table in tables])
    slots = _slots(pages, page_size)[:, :longest]
    counts = torch.arange(longest) < torch.tensor(lens).unsqueeze(1)
    slots = torch.where(counts, slots, slots[:, :1])  # an unwritten slot may hold NaN, which no mask hides
    mask = torch.zeros(counts.shape).masked_fill_(~counts, float("-inf"))[:, None, None]
    return LikeLengths(slots, None if lens[-1] == longest else mask)


def _slots(pages: Tensor, page_size: int) -> Tensor:
    """Return the slots `[..., n * page_size]` of pages `[..., n]`."""
    return (pages.unsqueeze(-1) * page_size + torch.arange(page_size)).flatten(-2)
