"""What one forward pass costs: operations and bytes moved, from a model's sizes and the lengths of its
sequences.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.estimates.ceilings import Ceilings
from helpers.estimates.layer_cost import layer_cache_bytes, layer_flops, layer_weights_read
from helpers.model.shapes import ModelShape


@dataclass(frozen=True)
class StepCost:
    """Operations (a multiply-add counts as two) and bytes of one pass."""

    flops: float
    weight_bytes: float
    """Every matrix read once (of the experts those that are chosen), and the embedding's rows of the new
    tokens.
    """
    kv_bytes: float
    """Keys and values: the history read, the new ones written and read.

    States of fixed size read and written.
    """
    activation_bytes: float
    """Each operator's inputs read and outputs written once, scores of the attention kept on chip."""

    @property
    def nbytes(self) -> float:
        """Return all bytes moved."""
        return self.weight_bytes + self.kv_bytes + self.activation_bytes

    @property
    def intensity(self) -> float:
        """Return the arithmetic intensity: operations per byte."""
        return self.flops / self.nbytes

    def seconds(self, ceilings: Ceilings) -> float:
        """Return the least seconds that the pass can take under these ceilings."""
        return ceilings.seconds(self.flops, self.nbytes)

    def flops_utilisation(self, seconds: float, ceilings: Ceilings) -> float:
        """Return MFU, model FLOPs utilisation (arXiv:2204.02311): the model's operations over those possible
        in that time.
        """
        return self.flops / seconds / ceilings.flops

    def bandwidth_utilisation(self, seconds: float, ceilings: Ceilings) -> float:
        """Return MBU, model bandwidth utilisation: the bytes that must move over those that could in that
        time.
        """
        return self.nbytes / seconds / ceilings.bandwidth


def step_cost(
    shape: ModelShape,
    new_tokens: Sequence[int],
    history: Sequence[int],
    weight_bytes: float = 2.0,
    element_bytes: float = 2.0,
) -> StepCost:
    """Return the cost of a pass in which sequence `i` brings `new_tokens[i]` tokens after `history[i]` cached
    ones.

    `weight_bytes` is the size of a weight, `element_bytes` that of an element of the cache and of
    activations. Logits are computed for each sequence's last token. Of a mixture of experts, those are read
    that the tokens meet on average. Biases are left out. Raises ValueError for lists of different lengths, no
    sequence, no new token or a negative history.
    """
    if not new_tokens or len(new_tokens) != len(history) or min(new_tokens) < 1 or min(history) < 0:
        raise ValueError(
            f"expected 1 or more new tokens and 0 or more cached ones for each sequence, got {new_tokens}, {history}"
        )
    tokens, sequences = sum(new_tokens), len(new_tokens)
    output, groups, ends = shape.vocab_size * shape.hidden_size, shape.groups.items(), shape.ends
    weights = sum(count * layer_weights_read(layer, tokens) for layer, count in groups)
    return StepCost(
        flops=sum(count * layer_flops(layer, new_tokens, history) for layer, count in groups)
        + 2 * (output * sequences + (ends.matrices + ends.more_products) * tokens),
        weight_bytes=(weights + ends.matrices + ends.vectors + output + tokens * ends.row) * weight_bytes,
        kv_bytes=sum(n * layer_cache_bytes(layer, new_tokens, history, element_bytes) for layer, n in groups),
        activation_bytes=shape.num_layers * tokens * layer_activations(shape) * element_bytes,
    )


def prefill_cost(shape: ModelShape, prompt_len: int, batch_size: int = 1, **sizes: float) -> StepCost:
    """Return the cost of computing `batch_size` prompts in one pass; `sizes` as in `step_cost`."""
    return step_cost(shape, [prompt_len] * batch_size, [0] * batch_size, **sizes)


def decode_cost(shape: ModelShape, context: int, batch_size: int = 1, **sizes: float) -> StepCost:
    """Return the cost of one new token for each of `batch_size` sequences with `context` cached tokens."""
    return step_cost(shape, [1] * batch_size, [context] * batch_size, **sizes)


def compute_bound_batch(shape: ModelShape, context: int, ceilings: Ceilings, **sizes: float) -> int | None:
    """Return the smallest batch whose decode step is bound by compute; None when no batch is.

    Both operations and bytes grow by the same amount with each sequence: `B f` operations, `w + B b` bytes.
    The ridge `r` is reached at `B = r w / (f - r b)`. No batch reaches the ridge where a sequence's own cache
    needs more time than that sequence's operations. With experts `w` grows too, until all are read: then the batch is searched for, up to a
    million.
    """
    if any(layer.num_experts for layer in shape.groups):
        return _searched_batch(shape, context, ceilings, **sizes)
    one, two = (decode_cost(shape, context, n, **sizes) for n in (1, 2))
    per_flops, per_bytes = two.flops - one.flops, two.nbytes - one.nbytes
    spare = per_flops - ceilings.ridge * per_bytes
    return max(1, math.ceil(ceilings.ridge * (one.nbytes - per_bytes) / spare)) if spare > 0 else None


def _searched_batch(shape: ModelShape, context: int, ceilings: Ceilings, **sizes: float) -> int | None:
    """Return the smallest batch bound by compute, by doubling and halving; None beyond a million."""

    def bound(batch: int) -> bool:
        return decode_cost(shape, context, batch, **sizes).intensity >= ceilings.ridge

    high = next((2**i for i in range(21) if bound(2**i)), None)
    return None if high is None else bisect_left(range(high + 1), True, lo=max(1, high // 2), key=bound)


def layer_weights(shape: ModelShape) -> int:
    """Return the elements of one layer's matrices: queries, keys, values, output, and the MLP's two or three."""
    attention = shape.hidden_size * shape.head_dim * (2 * shape.num_heads + 2 * shape.num_kv_heads)
    return attention + (3 if shape.gated_mlp else 2) * shape.hidden_size * shape.intermediate_size


def layer_activations(shape: ModelShape) -> int:
    """Return the elements that one layer's operators read and write for each token.

    Counted are two norms with their sums (4 hidden each) and the inputs and outputs of the matrices. So are
    rotation of queries and keys (read and written), attention's queries and output, and the MLP's activation.
    """
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    norms = 2 * 4 * hidden
    projections = (hidden + queries + 2 * keys) + (queries + hidden)
    rotation, attention = 2 * (queries + keys), 2 * queries
    wide = 2 * inner if shape.gated_mlp else inner
    return norms + projections + rotation + attention + (hidden + wide) + (wide + inner) + (inner + hidden)
