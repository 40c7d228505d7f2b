"""A model with some of its matrices replaced; the model that it is made from stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from helpers.model.decoder import DecoderLM, Linear


def matrices(model: nn.Module) -> Iterator[tuple[str, Linear]]:
    """Yield the names and modules of a model's matrices, in the order in which a token meets them.

    Names are such as `layers.3.attn.qkv_proj`. A tied output matrix is the embedding, which is not among them.
    """
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield name, module


def plain_weight(linear: nn.Linear) -> Tensor:
    """Return a matrix `[out, in]` as numbers, unpacked where it was packed for this processor."""
    weight: Tensor = linear.weight.data
    return weight.to_dense() if weight.is_mkldnn else weight


def replaced(model: DecoderLM, replace: Callable[[str, Linear], nn.Module]) -> DecoderLM:
    """Return a model in which `replace(name, matrix)` stands for each matrix; all else is shared, not copied."""
    twin = cast(DecoderLM, _shallow(model))
    twin.native_passes = None  # a native pass computes with the weights that it was made of
    for name, linear in list(matrices(model)):
        parent, _, own = name.rpartition(".")
        setattr(twin.get_submodule(parent), own, replace(name, linear))
    return twin


def reweighted(model: DecoderLM, change: Callable[[str, Tensor], Tensor]) -> DecoderLM:
    """Return a model whose matrix `name` is `change(name, weight)`, of the same shape, packed as before."""

    def replace(name: str, linear: Linear) -> nn.Module:
        before = plain_weight(linear)
        after = change(name, before)
        return linear if after is before else linear_of(after.to(before.dtype), linear)

    return replaced(model, replace)


def linear_of(
    weight: Tensor, like: Linear, dtype: torch.dtype | None = None, packed_from: int | None = None
) -> Linear:
    """Return a matrix module with this weight and the bias of `like`, packed where `like` is packed.

    `packed_from` packs the weight in any case, for products of so many rows and more (`Linear.pack`).
    """
    dtype = dtype or weight.dtype
    with torch.device("meta"):
        linear = Linear(weight.shape[1], weight.shape[0], bias=like.bias is not None)
    linear.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    if like.bias is not None:
        linear.bias = nn.Parameter(like.bias.data.to(dtype), requires_grad=False)
    if like.weight.is_mkldnn or packed_from is not None:
        linear.pack(packed_from or like.packed_from)
    return linear


def _shallow(module: nn.Module) -> nn.Module:
    """Return a copy of a module's tree, whose parameters and buffers are the same tensors."""
    twin = copy.copy(module)
    twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
    twin._modules = {
        name: child if child is None else _shallow(child) for name, child in module._modules.items()
    }
    return twin
