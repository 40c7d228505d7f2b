"""Ranks in rows and columns: stages of a pipeline, and in each stage the ranks that share its layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
from torch import Tensor

from helpers.parallel.collectives import Collectives


@dataclass
class Grid:
    """This rank's stage, the ranks of that stage, and messages to other stages, which are counted."""

    stages: int
    stage: int
    collectives: Collectives
    """The ranks that share this stage's layers."""
    sent: int = 0
    """Bytes of hidden states that this rank has sent to the next stage."""
    _kept: dict[tuple[int, int], tuple[Any, Tensor]] = field(default_factory=dict)

    @classmethod
    def of_all(cls, stages: int) -> Grid:
        """Return this rank's place when all ranks make `stages` stages of equally many ranks.

        All ranks call this method together. Raises ValueError for a number of ranks that the stages do not divide.
        """
        world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        if stages < 1 or world % stages:
            raise ValueError(
                f"{world} ranks make 1 stage, or a number of stages that divides them, got {stages}"
            )
        width = world // stages
        rows = [list(range(i * width, (i + 1) * width)) for i in range(stages)]
        groups = [dist.new_group(row) if 1 < width < world else None for row in rows]  # every rank makes all
        stage, place = divmod(rank, width)
        return cls(stages, stage, Collectives(rows[stage], place, groups[stage]))

    @property
    def width(self) -> int:
        """Return the number of ranks of a stage."""
        return self.collectives.world

    @property
    def last(self) -> int:
        """Return the number of the last stage, which chooses tokens."""
        return self.stages - 1

    def send(self, x: Tensor, stage: int, tag: int) -> None:
        """Send a tensor to the same place of another stage, without waiting until it is read.

        A tensor stays in memory until the next one of that tag, which waits for it.
        """
        x, to = x.contiguous(), stage * self.width + self.collectives.rank
        if before := self._kept.pop((to, tag), None):
            before[0].wait()
        self._kept[to, tag] = dist.isend(x, to, tag=tag), x
        if stage == self.stage + 1:
            self.sent += x.nbytes

    def receive(self, x: Tensor, stage: int, tag: int) -> Tensor:
        """Return a tensor from the same place of another stage; it replaces `x`."""
        dist.recv(x, stage * self.width + self.collectives.rank, tag=tag)
        return x

    def flush(self) -> None:
        """Wait until all that was sent is read."""
        for work, _ in self._kept.values():
            work.wait()
        self._kept.clear()
