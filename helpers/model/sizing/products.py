"""A layer's products as its sizes tell them, beside those that `transformers` computes."""

from __future__ import annotations

from dataclasses import replace

from helpers.model.layer_shapes import LayerShape
from helpers.model.sizing.counted_products import Products
from helpers.model.sizing.refusal import UnreadableConfig
from helpers.model.sizing.token_passes import TokenPasses


def with_products(layer: LayerShape, number: int, passes: TokenPasses, kind: str) -> LayerShape:
    """Return the layer with the products that its weights and its cache do not explain.

    Of a layer with a latent the first token tells: later `transformers` unpacks the latents of the history again, and
    engines do not. Raises UnreadableConfig where a weight of the layer computes no token, and where a token more in the cache
    costs something else than scores and values of the layer's heads.
    """
    first, second = (found.get(number, Products()) for found in passes.products)
    more = (first if layer.latent else second).matrices - layer.matrices - layer.router
    if not layer.latent and not layer.index_topk:
        pair, seen = _pair(layer), 2 if layer.window is None else min(2, layer.window)
        # The first token of a recurrent layer is computed in another way, as a prompt is.
        grows = not layer.recurrent_state and second.batched - first.batched != (seen - 1) * pair
        if grows or second.matrices > first.matrices:
            raise UnreadableConfig(
                f"model type {kind!r}: attention in layer {number} computes more for each cached token than scores "
                "and values of its heads, which is not sized here"
            )
        beside = second.batched - seen * pair
        # A state that is read by a batched product is counted by the state itself.
        more += 0 if beside == layer.recurrent_state else beside
    if more < 0:
        raise UnreadableConfig(
            f"model type {kind!r}: layer {number} holds matrices that compute no token, which is not sized here"
        )
    return replace(layer, more_products=more)


def _pair(layer: LayerShape) -> int:
    """Return the multiply-adds of a new token and one token that it sees."""
    return layer.attentions * layer.num_heads * (layer.key_dim + layer.value_dim) if layer.kv_heads else 0
