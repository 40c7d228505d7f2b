"""A quantised model: the same decoder, for the engine and every cache, with other matrices."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from helpers.compression.coded_product import product_of, whole_product_of
from helpers.compression.editing import linear_of, matrices, plain_weight, replaced
from helpers.compression.layers import QuantisedEmbedding, QuantisedLinear
from helpers.compression.products import (
    DequantisedProduct,
    Product,
    RowProduct,
    is_int8_by_row,
)
from helpers.compression.quantised import Agree, Quantised, quantise_matrix
from helpers.compression.recipe import INT8, Recipe
from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.model.decoder import DecoderLM, Linear
from helpers.model.native_passes.native_passes import NativePasses
from helpers.ops.torch_ops import pack_weight


@torch.no_grad()
def quantise(
    model: DecoderLM, recipe: Recipe, agree_of: Callable[[str, NumberFormat], Agree | None] | None = None
) -> DecoderLM:
    """Return a model with the matrices of a recipe; `model` stays as it is, and what is not quantised is shared.

    Every use of a model takes the result: caches, the engine, `generate`. For a part of a model, `agree_of` gives
    each matrix's `agree` of `quantise_matrix`. Raises ValueError, before anything is made, for layers that the
    model does not have and for int8 activations with weights of another format.
    """
    _check(model, recipe)
    dtype = recipe.computes_in or model.dtype
    like = model.norm.new_empty(0, dtype=dtype)

    def replace(name: str, linear: Linear) -> nn.Module:
        fmt = recipe.format_of(name)
        if fmt is None:
            return linear if dtype == model.dtype else linear_of(plain_weight(linear), linear, dtype)
        # Packing needs integer operators that not every device has: it is done on the host.
        quantised = quantise_matrix(
            plain_weight(linear).cpu(), fmt, agree_of(name, fmt) if agree_of else None
        )
        return _quantised_linear(quantised, linear, recipe, like)

    twin = replaced(model, replace)
    if twin.lm_head is None:
        _quantise_tied(
            twin, recipe, like, agree_of("lm_head", recipe.head) if agree_of and recipe.head else None
        )
    _convert(twin, dtype)
    twin.native_passes = NativePasses.of(twin)
    return twin


def weight_nbytes(model: nn.Module) -> int:
    """Return the bytes of all weights that a model holds, each tensor once, copies for larger batches included.

    What `DecoderLM.pack` keeps in two layouts counts twice.
    """
    stored = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    packed = getattr(model, "_packed_embedding", None)
    extra = 0 if packed is None else packed.numel() * packed.itemsize
    extra += sum(linear.plain.nbytes for _, linear in matrices(model) if linear.plain is not None)
    return extra + sum(tensor.numel() * tensor.itemsize for tensor in stored.values())


def _check(model: DecoderLM, recipe: Recipe) -> None:
    """Raise ValueError for a recipe that this model cannot follow."""
    wrong = [i for i in recipe.layers or () if not 0 <= i < len(model.layers)]
    if wrong:
        raise ValueError(f"the model has layers 0 to {len(model.layers) - 1}, the recipe names {wrong[0]}")
    if recipe.activations is not None and (recipe.weights is None or not is_int8_by_row(recipe.weights)):
        raise ValueError(f"int8 activations need {INT8} as weights, the recipe has {recipe.weights}")
    if recipe.most_rows is not None and recipe.most_rows < 1:
        raise ValueError(f"most_rows must be above 0, got {recipe.most_rows}")


def _quantised_linear(quantised: Quantised, linear: Linear, recipe: Recipe, like: Tensor) -> QuantisedLinear:
    """Return the module for a quantised matrix of a layer."""
    product: Product
    if recipe.activations is None:
        product = product_of(quantised, like)
    else:
        product = whole_product_of(quantised, like, recipe.activations)
    wide = None
    if recipe.most_rows is not None:
        wide = linear_of(quantised.dequantise(), linear, like.dtype, packed_from=1)
    bias = None if linear.bias is None else linear.bias.data.to(like.dtype)
    return QuantisedLinear(product, bias, wide, recipe.most_rows or 0).to(like.device)


def _quantise_tied(twin: DecoderLM, recipe: Recipe, like: Tensor, agree: Agree | None) -> None:
    """Give a model whose output matrix is its embedding one quantised matrix for both, or both in a new type."""
    weight = twin.embed_tokens.weight.data
    if recipe.head is None:
        if weight.dtype != like.dtype and twin._packed_embedding is not None:
            twin._packed_embedding = pack_weight(weight.to(like.dtype))
        return
    quantised = quantise_matrix(weight.cpu(), recipe.head, agree)
    product = product_of(quantised, like).to(like.device)
    rows = product if isinstance(product, RowProduct) else DequantisedProduct(quantised)
    twin._packed_embedding = None
    # Typed as nn.Embedding and Linear in the decoder, which calls them and asks for nothing else.
    twin.embed_tokens = QuantisedEmbedding(rows.to(like.device), like.dtype)  # type: ignore[assignment]
    twin.lm_head = QuantisedLinear(product)  # type: ignore[assignment]


def _convert(twin: DecoderLM, dtype: torch.dtype) -> None:
    """Bring norms and the embedding to `dtype`; matrices have been."""
    for module in twin.modules():
        if not isinstance(module, Linear):
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.dtype != dtype:
                    module._parameters[name] = nn.Parameter(parameter.to(dtype), requires_grad=False)
