"""Weights set to zero, and whole layers left out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from helpers.compression.editing import reweighted
from helpers.model.decoder import DecoderLM


def importance(weight: Tensor, squares: Tensor | None = None) -> Tensor:
    """Return how much each weight `[out, in]` counts: its size, or its size times its channel's norm.

    `squares [in]` are those of a calibration.

    The second is Wanda (arXiv:2306.11695): a small weight on a loud channel moves outputs more than a large
    weight on a silent one.
    """
    return weight.abs() if squares is None else weight.abs() * squares.sqrt()


def keep_largest(scores: Tensor, share: float) -> Tensor:
    """Return a mask of the `share` of each row's weights that counts most, bool `[out, in]`."""
    if not 0 < share <= 1:
        raise ValueError(f"the share that is kept lies above 0 and up to 1, got {share}")
    kept = scores.topk(max(1, round(share * scores.shape[1])), dim=1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, kept, True)


def keep_two_of_four(scores: Tensor) -> Tensor:
    """Return a mask of the two weights that count most among each four neighbours of a row, bool `[out, in]`.

    Some processors skip the other half ("2:4"). Raises ValueError where rows are not whole fours.
    """
    if scores.shape[1] % 4:
        raise ValueError(f"rows of {scores.shape[1]} weights are not whole fours")
    fours = scores.reshape(len(scores), -1, 4)
    kept = fours.topk(2, dim=-1).indices
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, kept, True).reshape(scores.shape)


def without_layers(model: DecoderLM, dropped: Collection[int]) -> DecoderLM:
    """Return a model that lacks some layers; caches are made for its own number of layers.

    Raises ValueError for a layer that the model does not have, and when none would stay.
    """
    count = len(model.layers)
    if wrong := [i for i in dropped if not 0 <= i < count]:
        raise ValueError(f"the model has layers 0 to {count - 1}, got {wrong[0]}")
    kept = [layer for i, layer in enumerate(model.layers) if i not in dropped]
    if not kept:
        raise ValueError("at least one layer must stay")
    twin = reweighted(model, lambda name, weight: weight)
    twin.layers, twin.cfg = nn.ModuleList(kept), replace(model.cfg, num_layers=len(kept))
    return twin
