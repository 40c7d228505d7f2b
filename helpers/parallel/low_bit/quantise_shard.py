"""A rank's part of a quantised model: the codes and scales that one process would have, for this rank's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from helpers.compression.editing import replaced
from helpers.compression.layers import QuantisedEmbedding
from helpers.compression.quantise import quantise
from helpers.compression.quantised import Agree
from helpers.compression.recipe import Recipe
from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.model.decoder import Linear
from helpers.parallel.collectives import Collectives
from helpers.parallel.low_bit.summed import SummedEmbedding, SummedProduct
from helpers.parallel.stage_model import StageLM
from helpers.parallel.tensor_parallel import RowParallel, TensorParallelLM

_CUT = {"o_proj": "attn", "down_proj": "mlp"}
"""Matrices that are cut along their input, and where a layer has them."""


@torch.no_grad()
def quantise_shard(model: TensorParallelLM, recipe: Recipe) -> TensorParallelLM:
    """Return this rank's part of `quantise(whole model, recipe)`; `model`, its part in floats, stays as it is.

    All ranks call this function together. A scale of a whole row or matrix comes from all ranks' weights, so that
    codes are those of one process. Raises ValueError, on all ranks, as `quantise` does, and for groups that a cut
    between two ranks would break.
    """
    recipe = _of_stage(model, recipe)
    _check_groups(model, recipe)
    bare = replaced(model, lambda name, linear: _bare(linear) if isinstance(linear, RowParallel) else linear)
    twin = cast(TensorParallelLM, quantise(bare, recipe, _agreement(model.collectives)))
    before: Any
    after: Any
    for before, after in zip(model.layers, twin.layers, strict=True):
        for name, where in _CUT.items():
            bias, room = getattr(getattr(before, where), name).bias, getattr(after, where)
            summed = SummedProduct(getattr(room, name), _as(bias, twin.dtype), model.collectives)
            setattr(room, name, summed)
    return _with_head(twin, model, recipe)


def _with_head(twin: TensorParallelLM, model: TensorParallelLM, recipe: Recipe) -> TensorParallelLM:
    """Give a quantised embedding its sum over ranks; a stage before the last one has no output matrix."""
    embedding: Any = twin.embed_tokens
    if isinstance(embedding, QuantisedEmbedding):
        twin.embed_tokens = SummedEmbedding(embedding, model.shard.vocab, model.collectives)  # type: ignore[assignment]
    if isinstance(model, StageLM) and not model.last:
        twin.lm_head = None
    return twin


def _of_stage(model: TensorParallelLM, recipe: Recipe) -> Recipe:
    """Return the recipe of a stage, whose layers are counted from 0, and which may have no head."""
    if not isinstance(model, StageLM):
        return recipe
    has_head = model.last or (model.first and model.cfg.tied)
    layers = recipe.layers
    if layers is not None:
        layers = [i - model.layer_range.start for i in layers if i in model.layer_range]
    return replace(recipe, layers=layers, head=recipe.head if has_head else None)


def _check_groups(model: TensorParallelLM, recipe: Recipe) -> None:
    """Raise ValueError where a rank would begin within a group; all ranks find the same."""
    group = recipe.weights.group if recipe.weights is not None else "row"
    if not isinstance(group, int):
        return
    for rank, shard in enumerate(model.shards):
        starts = {"o_proj": shard.heads.start * model.cfg.head_dim, "down_proj": shard.columns.start}
        for name, start in starts.items():
            if start % group:
                raise ValueError(
                    f"rank {rank} of {len(model.shards)} begins at column {start} of {name}, "
                    f"within a group of {group} weights"
                )


def _agreement(collectives: Collectives) -> Callable[[str, NumberFormat], Agree | None]:
    """Return what finds, for a matrix and its format, how ranks agree on groups of which each rank has a part."""

    def agree(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        ends = collectives.all_max(torch.stack([-low, high]))
        return -ends[0], ends[1]

    def agree_of(name: str, fmt: NumberFormat) -> Agree | None:
        shared = fmt.group == "tensor" or (fmt.group == "row" and name.rpartition(".")[2] in _CUT)
        return agree if shared else None

    return agree_of


def _bare(linear: Linear) -> nn.Module:
    """Return a matrix that neither sums over ranks nor has a bias; weights are shared, packed as they are."""
    with torch.device("meta"):
        bare = Linear(linear.in_features, linear.out_features, bias=False)
    bare.weight, bare.plain, bare.packed_from = linear.weight, linear.plain, linear.packed_from
    return bare


def _as(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return a bias in the type that the model computes in."""
    return None if bias is None else bias.detach().to(dtype)
