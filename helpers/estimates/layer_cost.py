"""What one layer of a pass costs: operations, weights read, cache read and written; attention by its kind."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.model.layer_shapes import LayerShape


def layer_flops(layer: LayerShape, new_tokens: Sequence[int], history: Sequence[int]) -> int:
    """Return a layer's operations over sequences that bring `new_tokens` after `history` cached ones.

    A state is updated and read once for each token: two multiply-adds an element.
    """
    tokens = sum(new_tokens)
    states = 4 * layer.recurrent_state + 2 * layer.conv_state
    return (2 * (layer.active + layer.more_products) + states) * tokens + _attention_flops(
        layer, new_tokens, history
    )


def layer_weights_read(layer: LayerShape, tokens: int) -> float:
    """Return the weights that a pass over `tokens` tokens reads: every matrix once, of the experts those that
    are chosen.

    The number of different experts is the expected one for a router that favours none. Biases are left out.
    """
    return layer.matrices + layer.router + layer.vectors + layer.distinct_experts(tokens) * layer.expert


def layer_cache_bytes(
    layer: LayerShape, new_tokens: Sequence[int], history: Sequence[int], element_bytes: float
) -> float:
    """Return the cache's traffic: the history read, new entries written and read, states of fixed size read
    and written.

    A layer that shares another layer's cache reads alone. A windowed layer reads the window alone; a sparse layer reads every index key, and the entries that its
    queries choose.
    """
    pair = layer.kv_heads * (layer.key_dim + layer.value_dim)
    old = [layer.cached_tokens(h) for h in history]
    chosen = (
        old
        if layer.index_topk is None
        else [min(h, layer.index_topk * n) for h, n in zip(old, new_tokens, strict=True)]
    )
    new = (1 if layer.shared else 2) * sum(new_tokens) if layer.kv_heads else 0
    elements = (new + sum(chosen)) * pair + (new + sum(old)) * layer.index_dim
    return elements * element_bytes + 2 * len(new_tokens) * layer.state_bytes(element_bytes)


def _attention_flops(layer: LayerShape, new_tokens: Sequence[int], history: Sequence[int]) -> int:
    """Return the operations of scores and weighted values.

    A latent is read as it is: a query against latent and rotated part, the weights against the latent (MLA's
    absorbed form).
    """
    if not layer.kv_heads:
        return 0
    limits = [limit for limit in (layer.window, layer.index_topk) if limit is not None]
    width = 2 * layer.key_dim + layer.value_dim if layer.latent else layer.key_dim + layer.value_dim
    seen = attended_pairs(new_tokens, history, min(limits, default=None))
    chosen = layer.index_heads * layer.index_dim * attended_pairs(new_tokens, history, layer.window)
    return 2 * (layer.attentions * layer.num_heads * width * seen + chosen)


def attended_pairs(new_tokens: Sequence[int], history: Sequence[int], most: int | None = None) -> int:
    """Return the pairs of a new token and a token that the new one sees, itself included.

    At most `most` for each.
    """
    return sum(_seen(n, h, most) for n, h in zip(new_tokens, history, strict=True))


def _seen(new: int, old: int, most: int | None) -> int:
    """Return one sequence's pairs: the new tokens see 1, 2, ... more than the history, until the limit."""
    growing = new if most is None else min(new, max(0, most - old))
    return growing * old + growing * (growing + 1) // 2 + (new - growing) * (most or 0)
