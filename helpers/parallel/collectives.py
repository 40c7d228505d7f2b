"""What the ranks of one group say to each other, counted: calls, and the bytes that this rank hands in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


class Collectives:
    """Sums, gathers and broadcasts among the ranks of one group. A group of one rank only counts."""

    def __init__(self, members: Sequence[int] = (0,), rank: int = 0, group: dist.ProcessGroup | None = None):
        """Take the members' numbers among all ranks, this rank's place among the members, and their group.

        Without a group, the members are all ranks. Raises ValueError for a place that is none of theirs.
        """
        if not 0 <= rank < len(members):
            raise ValueError(f"a rank is one of {len(members)} members, got {rank}")
        self.members, self.rank, self._group = tuple(members), rank, group
        self.calls: Counter[str] = Counter()
        self.nbytes: Counter[str] = Counter()

    @classmethod
    def of_all(cls) -> Collectives:
        """Return the group of all ranks; of this process alone where no group was joined."""
        if not dist.is_initialized():
            return cls()
        return cls(range(dist.get_world_size()), dist.get_rank())

    @property
    def world(self) -> int:
        """Return the number of members."""
        return len(self.members)

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum of all ranks' `x`, bit for bit the same on each; the sum replaces `x`."""
        self._count("all_reduce", x)
        if self.world > 1:
            dist.all_reduce(x, group=self._group)
        return x

    def all_max(self, x: Tensor) -> Tensor:
        """Return the largest of all ranks' `x`, element by element, the same on each; the result replaces `x`."""
        self._count("all_max", x)
        if self.world > 1:
            dist.all_reduce(x, dist.ReduceOp.MAX, group=self._group)
        return x

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """Return all ranks' parts side by side: `x [B, widths[rank]]` -> `[B, sum(widths)]`.

        All ranks hand in equally much, so that narrower parts are padded.
        """
        x = F.pad(x, (0, max(widths) - x.shape[-1])).contiguous()
        self._count("all_gather", x)
        if self.world == 1:
            return x
        parts = [torch.empty_like(x) for _ in widths]
        dist.all_gather(parts, x, group=self._group)
        return torch.cat([part[:, :width] for part, width in zip(parts, widths, strict=True)], dim=-1)

    def broadcast(self, x: Tensor) -> Tensor:
        """Return the first member's `x` on all ranks; it replaces `x`."""
        self._count("broadcast", x)
        if self.world > 1:
            dist.broadcast(x, self.members[0], group=self._group)
        return x

    def _count(self, name: str, x: Tensor) -> None:
        """Count a call."""
        self.calls[name] += 1
        self.nbytes[name] += x.nbytes
