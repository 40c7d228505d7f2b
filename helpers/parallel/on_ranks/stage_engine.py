"""A pipeline of one rank a stage: groups of requests go round, and each stage counts when it computes."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch.distributed as dist

from helpers.engine.request import Request
from helpers.parallel.grid import Grid
from helpers.parallel.pipeline_batching import PipelineBatcher
from helpers.parallel.stage_model import StageLM, load_stage
from helpers.parallel.stages import ranges


@dataclass(frozen=True)
class StageServed:
    """What one stage did."""

    tokens: dict[Hashable, list[int]]
    """The answers, which every stage knows."""
    order: list[int]
    """The group of each pass."""
    computed: int
    """Tokens of all passes."""
    sent: int
    """Bytes of hidden states that this stage sent on."""
    busy: float
    """Seconds in which this stage computed."""
    seconds: float
    """Seconds from the common start to this stage's end."""


@cache
def stage(split: tuple[int, ...], folder: Path | str | None = None) -> tuple[Grid, StageLM]:
    """Return this rank's place and its stage of the model; `split` counts each stage's layers. Loaded once."""
    grid = Grid.of_all(len(split))
    return grid, load_stage(grid, folder, ranges(split))


def serve_in_stages(
    requests: Sequence[Request],
    split: tuple[int, ...],
    groups: int,
    folder: Path | str | None = None,
    num_pages: int = 128,
) -> StageServed:
    """Serve requests in a pipeline on all ranks; each of `groups` groups has `num_pages` pages."""
    grid, model = stage(split, folder)
    grid.sent = 0
    batcher = PipelineBatcher(grid, model, groups, num_pages)
    for request in requests:
        batcher.add_request(request)
    if dist.is_initialized():
        dist.barrier()  # a stage that has loaded waits for no other one in its measured time
    begin = time.perf_counter()
    done = batcher.run()
    seconds = time.perf_counter() - begin
    parts = [part for group in batcher.groups for step in group.steps for part in step.parts]
    return StageServed(
        {name: state.token_ids for name, state in done.items()},
        batcher.log,
        sum(part.num_tokens for part in parts),
        grid.sent,
        batcher.busy,
        seconds,
    )
