"""Which sequences of a step attend together: those that compute one token each, by common beginning and by like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor

WORTH = 512
"""A common beginning is read once for all when that saves the reading of so many tokens."""


class LikeLengths(NamedTuple):
    """Some rows of a family; what each has of its own is padded to the longest's length `L`."""

    slots: Tensor
    """Where the tokens lie, row after row: int64 `[n, L]`; padding names a slot of the row's own."""
    mask: Tensor | None
    """fp32 `[n, 1, 1, L]`, 0 for a token and minus infinity for padding; None where there is none."""


class Family(NamedTuple):
    """Sequences with one new token each: those whose tables begin alike, or all that have no such relatives."""

    rows: Tensor
    """Their tokens' places in the batch, the longest sequence first: int64 `[n]`."""
    shared: Tensor | None
    """The slots of the beginning that they have in common, int64; None for nothing."""
    parts: list[LikeLengths]
    """What follows, in the order of the rows."""

    def to(self, device: torch.device) -> Family:
        """The same with its tensors on `device`."""
        parts = [LikeLengths(s.to(device), None if m is None else m.to(device)) for s, m in self.parts]
        shared = None if self.shared is None else self.shared.to(device)
        return Family(self.rows.to(device), shared, parts)


def families(
    tables: Sequence[Sequence[int]], lens: Sequence[int], rows: Sequence[int], page_size: int, share: bool
) -> list[Family]:
    """The families of sequences with these tables and lengths in tokens; `rows[i]` is the place of sequence `i`'s token."""
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
    """Sequences that begin with the same page, and their common pages where that is worth it; the others at last."""
    by_first: dict[int, list[int]] = {}
    for i, table in enumerate(tables):
        by_first.setdefault(table[0], []).append(i)
    others = []
    for members in by_first.values():
        beginnings = [tuple(tables[i]) for i in members]
        ends = (min(beginnings), max(beginnings))  # they part first, if any do
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False)))
        common = min(common, (min(lens[i] for i in members) - 1) // page_size)  # something must follow
        if common * page_size * (len(members) - 1) >= WORTH:
            yield members, common
        else:
            others += members
    if others:
        yield others, 0


def _alike(members: Sequence[int], lens: Sequence[int]) -> Iterator[list[int]]:
    """Members, the longest first, cut where padding would cost more than another call: beyond a quarter or 64 tokens."""
    group: list[int] = []
    for i in members:
        if group and lens[i] < min(0.75 * lens[group[0]], lens[group[0]] - 64):
            yield group
            group = []
        group.append(i)
    yield group


def _part(tables: list[Sequence[int]], lens: list[int], page_size: int) -> LikeLengths:
    """The slots and the mask of sequences of like length, the longest first."""
    longest, width = lens[0], len(tables[0])
    pages = torch.tensor([[*table, *[0] * (width - len(table))] for table in tables])
    slots = _slots(pages, page_size)[:, :longest]
    counts = torch.arange(longest) < torch.tensor(lens).unsqueeze(1)
    slots = torch.where(counts, slots, slots[:, :1])  # a slot that nobody has written may hold anything
    mask = torch.zeros(counts.shape).masked_fill_(~counts, float("-inf"))[:, None, None]
    return LikeLengths(slots, None if lens[-1] == longest else mask)


def _slots(pages: Tensor, page_size: int) -> Tensor:
    """The slots `[..., n * page_size]` of pages `[..., n]`."""
    return (pages.unsqueeze(-1) * page_size + torch.arange(page_size)).flatten(-2)
