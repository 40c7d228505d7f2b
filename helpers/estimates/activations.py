"""The memory that a forward pass needs beside weights and cache, derived tensor by tensor from
`helpers.model.decoder`.

Activations are reused from layer to layer: what counts is the worst moment of *one* layer, or the logits at
the end. The number of layers does not enter.
"""

from __future__ import annotations

from typing import Literal

from helpers.model.shapes import ModelShape

Attention = Literal["fused", "materialised"]


def activation_phases(
    shape: ModelShape,
    batch_size: int,
    seq_len: int,
    element_size: int = 2,
    *,
    attention: Attention = "fused",
    logits: Literal["last", "all"] = "last",
) -> dict[str, int]:
    """Return the bytes in use in each phase of a pass over `batch_size` prompts of `seq_len` tokens, nothing
    cached before.

    `element_size` is that of weights and activations in bytes. Scores of `materialised` attention are fp32,
    for one sequence at a time; logits are fp32, of each prompt's last token or of all tokens. The workspace
    of a fused attention kernel (under 1 MB per CPU thread) is not counted.
    """
    h, d = shape.hidden_size, shape.head_dim
    q, kv = shape.num_heads * d, shape.num_kv_heads * d
    # In every layer: the residual stream, its normed copy, the layer before's output (still named), cos and sin.
    stream = 3 * h + 2 * d
    normed = q + kv if shape.qk_norm else 0
    mlp_tensors = (
        3 if shape.gated_mlp else 2
    )  # gate, up and their product, or one projection and its activation
    per_token = {
        "rotary": stream + (q + 2 * kv) + normed + max(3 * q, q + 3 * kv),
        "attention": stream + (q + 2 * kv) + (q + kv) + q,
        "mlp": stream + mlp_tensors * shape.intermediate_size,
    }
    tokens = batch_size * seq_len
    phases = {name: elements * tokens * element_size for name, elements in per_token.items()}
    if attention == "materialised":
        phases["attention"] += _materialised(shape, seq_len, element_size)
    rows = tokens if logits == "all" else batch_size
    fp32_copy = 4 if element_size != 4 else 0
    phases["logits"] = rows * (h * element_size + shape.vocab_size * (element_size + fp32_copy))
    return phases


def activation_bytes(
    shape: ModelShape,
    batch_size: int,
    seq_len: int,
    element_size: int = 2,
    *,
    attention: Attention = "fused",
    logits: Literal["last", "all"] = "last",
) -> int:
    """Return the peak over `activation_phases`, in bytes."""
    return max(
        activation_phases(
            shape, batch_size, seq_len, element_size, attention=attention, logits=logits
        ).values()
    )


def _materialised(shape: ModelShape, seq_len: int, element_size: int) -> int:
    """Return the bytes that one sequence's stored scores add: K and V once per query head, the result, scores
    and weights in fp32.
    """
    repeated = 3 * seq_len * shape.num_heads * shape.head_dim * element_size
    scores = shape.num_heads * seq_len**2
    rounded = scores * element_size if element_size != 4 else 0
    return repeated + 2 * scores * 4 + rounded
