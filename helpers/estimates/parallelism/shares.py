"""What one device holds of a model that stages and tensor-parallel devices share: weights, and a token's cache."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.model.layer_shapes import LayerShape
from helpers.model.shapes import ModelShape


def held_weights(shape: ModelShape, layers: Sequence[int], tensor: int = 1) -> list[int]:
    """Return the elements that one device of each stage holds, of a model whose layers are all alike.

    `layers` counts each stage's layers, and `tensor` devices share each stage. Matrices are cut evenly and rounded up;
    norms and biases are whole on every device. The first stage has the embedding, the last one the output matrix, of a
    tied model a second copy. Raises ValueError for less than one device, for numbers of layers that do not sum to the
    model's, and for layers that differ.
    """
    layer = _layer(shape, layers, tensor)
    matrices = -(-(layer.matrices + layer.num_experts * layer.expert) // tensor)
    each = matrices + layer.router + layer.vectors + layer.biases
    held = [count * each for count in layers]
    table = -(-shape.vocab_size // tensor) * shape.hidden_size
    held[0] += table
    held[-1] += shape.hidden_size + (0 if len(layers) == 1 and is_tied(shape) else table)
    return held


def held_cache(shape: ModelShape, layers: Sequence[int], tensor: int = 1) -> list[int]:
    """Return the elements that one cached token takes on one device of each stage.

    Where devices exceed KV heads, several devices hold the same head. Errors as in `held_weights`.
    """
    layer = _layer(shape, layers, tensor)
    heads = -(-layer.kv_heads // tensor)
    return [count * heads * (layer.key_dim + layer.value_dim) for count in layers]


def is_tied(shape: ModelShape) -> bool:
    """Return whether the output matrix is the embedding, as far as the number of weights tells."""
    rest = shape.num_params - sum(count * layer.held for layer, count in shape.groups.items())
    return rest < 2 * shape.vocab_size * shape.hidden_size


def _layer(shape: ModelShape, layers: Sequence[int], tensor: int) -> LayerShape:
    """Return the layer that all layers are like; raise ValueError for what cannot be shared."""
    if tensor < 1:
        raise ValueError(f"a stage has 1 device or more, got {tensor}")
    if not layers or min(layers) < 0 or sum(layers) != shape.num_layers:
        raise ValueError(f"the stages share {shape.num_layers} layers, got {list(layers)}")
    if len(shape.groups) > 1:
        raise ValueError(f"the layers of {shape.name} differ, so that a number of layers says no size")
    return next(iter(shape.groups))
