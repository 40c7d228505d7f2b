"""Which layers each stage of a pipeline holds: even by work, not by number of layers."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.model.config import DecoderConfig
from helpers.model.shapes import ModelShape

Sizes = DecoderConfig | ModelShape


def layer_weight(cfg: Sizes) -> int:
    """Return the elements of one layer's matrices, which a token is multiplied with."""
    attention = cfg.hidden_size * cfg.head_dim * (2 * cfg.num_heads + 2 * cfg.num_kv_heads)
    return attention + 3 * cfg.hidden_size * cfg.intermediate_size


def head_weight(cfg: Sizes) -> int:
    """Return the elements of the output matrix; the embedding, which is looked up, costs no work."""
    return cfg.vocab_size * cfg.hidden_size


def split_layers(cfg: Sizes, stages: int) -> list[range]:
    """Return each stage's layers, such that the heaviest stage is as light as possible; the last one has the head.

    Of equally good splits, the one with more layers in earlier stages is returned. Raises ValueError for less than one
    stage, and for more stages than layers.
    """
    if not 1 <= stages <= cfg.num_layers:
        raise ValueError(f"{cfg.num_layers} layers go to 1 to {cfg.num_layers} stages, got {stages}")
    each, head = layer_weight(cfg), head_weight(cfg)
    # A last stage of n layers leaves the others an even split: try all n, and keep the lightest heaviest stage.
    heaviest = {}
    for last in range(1, cfg.num_layers - stages + 2):
        others = even(cfg.num_layers - last, stages - 1)
        if sum(others) + last == cfg.num_layers:
            heaviest[last] = max([n * each for n in others] + [last * each + head])
    last = min(heaviest, key=lambda n: (heaviest[n], n))
    return ranges([*even(cfg.num_layers - last, stages - 1), last])


def ranges(sizes: Sequence[int]) -> list[range]:
    """Return ranges of layers of these sizes, one behind the other."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def stage_weights(cfg: Sizes, split: Sequence[range]) -> list[int]:
    """Return the elements of the matrices that each stage multiplies with, the head in the last stage."""
    weights = [len(layers) * layer_weight(cfg) for layers in split]
    weights[-1] += head_weight(cfg)
    return weights


def even(total: int, parts: int) -> list[int]:
    """Return `parts` sizes that sum to `total`, larger ones first."""
    return [total // parts + (i < total % parts) for i in range(parts)]
