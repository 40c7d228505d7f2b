"""Outliers moved from activations into weights, without changing what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from helpers.compression.calibration.statistics import InputStatistics
from helpers.compression.editing import matrices, plain_weight, reweighted
from helpers.model.decoder import MLP, DecoderLM

_NORM_BEFORE = {"qkv_proj": "input_norm", "gate_up_proj": "post_norm"}
FOLDED = ("qkv_proj", "gate_up_proj", "down_proj")
"""Matrices whose inputs can be scaled where they are made: by a norm's weight, or by the rows of `up`."""


def smooth(model: DecoderLM, statistics: Mapping[str, InputStatistics], strength: float = 0.5) -> DecoderLM:
    """Return an equal model whose activations have smaller outliers (SmoothQuant, arXiv:2211.10438).

    Channel `j` of a matrix's input is divided by `max|x_j| ** strength / max|w_j| ** (1 - strength)`, and the
    weights of that channel are multiplied by the same number.
    """
    scales = {}
    for name, linear in matrices(model):
        if name in statistics and name.endswith(FOLDED):
            weights = plain_weight(linear).float().abs().amax(0).clamp(min=1e-5)
            inputs = statistics[name].largest.clamp(min=1e-3)
            scales[name] = inputs**strength / weights ** (1 - strength)
    return rescaled(model, scales)


def rescaled(model: DecoderLM, scales: Mapping[str, Tensor]) -> DecoderLM:
    """Return an equal model: the inputs of matrix `name` are divided by `scales[name]`, its columns multiplied.

    The division costs nothing: the norm before a matrix takes it into its weight; for `down_proj` the rows of
    `up` do, whose outputs are its inputs. The inputs of `o_proj` come from attention, where one value head
    serves several query heads: ValueError, before anything is made, as for a scale that is not above 0.
    """
    for name, scale in scales.items():
        if not name.endswith(FOLDED):
            raise ValueError(f"the inputs of {name!r} cannot be scaled where they are made")
        if not bool((scale > 0).all()):
            raise ValueError(f"scales must be above 0, those of {name!r} are not")
    twin = reweighted(model, lambda name, weight: _scaled(name, weight, scales))
    for name, scale in scales.items():
        _divide_inputs(twin, name, scale)
    return twin


def _scaled(name: str, weight: Tensor, scales: Mapping[str, Tensor]) -> Tensor:
    """Return a matrix with its columns multiplied, and the rows of `up` divided by the scales of `down_proj`."""
    down = scales.get(name.replace("gate_up_proj", "down_proj")) if name.endswith("gate_up_proj") else None
    if name not in scales and down is None:
        return weight
    result = weight * scales[name] if name in scales else weight.clone()
    if down is not None:
        result[len(down) :] /= down.unsqueeze(1)
    return result


def _divide_inputs(twin: DecoderLM, name: str, scale: Tensor) -> None:
    """Divide what is no matrix: the norm's weight before a matrix, or the bias of `up`."""
    layer = twin.layers[int(name.split(".")[1])]
    norm = _NORM_BEFORE.get(name.rpartition(".")[2])
    if norm is not None:
        before = getattr(layer, norm)
        setattr(layer, norm, nn.Parameter((before / scale).to(before.dtype), requires_grad=False))
        return
    matrix = cast(MLP, layer.mlp).gate_up_proj  # a new one, made for its new weight; its bias is still shared
    if matrix.bias is not None:
        factor = torch.cat([torch.ones_like(scale), 1 / scale])
        matrix.bias = nn.Parameter((matrix.bias * factor).to(matrix.bias.dtype), requires_grad=False)
