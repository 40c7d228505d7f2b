"""A rank's part of a checkpoint, read from the files slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from helpers.model.checkpoint import end_tokens_of, locate
from helpers.model.config import DecoderConfig
from helpers.model.meta_model import checked, config_from_file
from helpers.model.weights import account, sources
from helpers.parallel.collectives import Collectives
from helpers.parallel.rank_process import own_device
from helpers.parallel.shards import Shard, plan_shards
from helpers.parallel.sliced_tensors import SlicedTensors
from helpers.parallel.tensor_parallel import TensorParallelLM


def load_shard(
    folder: Path | str | None = None,
    collectives: Collectives | None = None,
    dtype: torch.dtype = torch.float32,
) -> TensorParallelLM:
    """Return this rank's part of a folder's model (default: the course's), packed, on this rank's device.

    The ranks are those of `collectives` (default: all). Only this rank's slices are read. Raises ValueError as `build`
    does, and for more ranks than the model has heads.
    """
    folder = locate() if folder is None else Path(folder)
    config = config_from_file(folder)
    checked(config)
    cfg = DecoderConfig.from_hf(config)  # before the meta device: rotary angles are read as numbers
    collectives = collectives or Collectives.of_all()
    shards = plan_shards(cfg, collectives.world)
    with torch.device("meta"):
        model = TensorParallelLM(cfg, shards, collectives)
    state = read_parts(cfg, shards[collectives.rank], SlicedTensors(folder), dtype)
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False).eval().to(own_device()).pack()
    model.end_tokens = end_tokens_of(folder, config)
    return model


def read_parts(
    cfg: DecoderConfig,
    shard: Shard,
    tensors: SlicedTensors,
    dtype: torch.dtype = torch.float32,
    wanted: Mapping[str, list[str]] | None = None,
) -> dict[str, Tensor]:
    """Return one rank's parameters: each is a stack of the shard's slices of the checkpoint's tensors.

    `wanted` names the tensors of each parameter (default: of all parameters of the model). Raises ValueError for a tensor that is missing, unused or not stored as floats.
    """
    every = sources(cfg)
    account(cfg, {name for parts in every.values() for name in parts}, tensors)
    return {
        target: torch.cat(
            [_floats(name, tensors.slice(name, shard.cut(name, cfg.head_dim))) for name in parts]
        ).to(dtype)
        for target, parts in (every if wanted is None else wanted).items()
    }


def _floats(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor; raise ValueError, naming it, for one that is not stored as floats."""
    if not tensor.dtype.is_floating_point or tensor.itemsize < 2:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(
            f"the checkpoint is quantised: {name!r} is stored as {kind}, and ranks compute floats"
        )
    return tensor
