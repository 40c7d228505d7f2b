"""Which part of a decoder each rank holds: attention heads, columns of the MLP, rows of the vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from helpers.model.config import DecoderConfig
from helpers.parallel.stages import even, ranges

_STEP = (
    128  # MLP columns go to ranks in steps of so many where the matrix has enough: kernels like round sizes
)


@dataclass(frozen=True)
class Shard:
    """One rank's part of every layer and of the vocabulary, as ranges of the whole model's numbers."""

    heads: range
    kv_heads: range
    """KV heads that the query heads read; where ranks exceed KV heads, several ranks hold the same one."""
    columns: range
    """Columns of gate and up, which are the rows of the down projection's input."""
    vocab: range

    def config(self, cfg: DecoderConfig) -> DecoderConfig:
        """Return the whole model's config with this rank's sizes; vocabulary and hidden size stay."""
        return replace(
            cfg,
            num_heads=len(self.heads),
            num_kv_heads=len(self.kv_heads),
            intermediate_size=len(self.columns),
        )

    def cut(self, name: str, head_dim: int) -> tuple[int, range] | None:
        """Return the dimension and the range of a checkpoint's tensor that this rank reads; None for all of it.

        Matrices before a sum over ranks are cut by columns. Their biases stay whole: a bias is added once, after the sum.
        """
        *_, matrix, kind = name.split(".")
        if matrix in ("embed_tokens", "lm_head"):
            return 0, self.vocab
        if matrix in ("gate_proj", "up_proj"):
            return 0, self.columns
        if matrix in ("q_proj", "k_proj", "v_proj"):
            return 0, _times(self.heads if matrix == "q_proj" else self.kv_heads, head_dim)
        if matrix in ("o_proj", "down_proj") and kind == "weight":
            return 1, _times(self.heads, head_dim) if matrix == "o_proj" else self.columns
        return None


def plan_shards(cfg: DecoderConfig, world: int) -> list[Shard]:
    """Return the parts of `world` ranks, as even as whole heads allow.

    A rank with more KV heads gets fewer MLP columns, so that all ranks read about as many weights. Where ranks exceed KV
    heads, the ranks of one KV head share its query heads. Raises ValueError for less than one rank, and for more ranks
    than query heads.
    """
    if not 1 <= world <= cfg.num_heads:
        raise ValueError(f"{cfg.num_heads} heads go to 1 to {cfg.num_heads} ranks, got {world}")
    heads = _heads(cfg.num_heads // cfg.num_kv_heads, cfg.num_kv_heads, world)
    columns = _columns(cfg, [(2 * len(q) + 2 * len(kv)) * cfg.head_dim for q, kv in heads])
    vocab = ranges(even(cfg.vocab_size, world))
    return [Shard(q, kv, c, v) for (q, kv), c, v in zip(heads, columns, vocab, strict=True)]


def _heads(group: int, kv_heads: int, world: int) -> list[tuple[range, range]]:
    """Return each rank's query heads and KV heads."""
    if world <= kv_heads:
        return [(_times(kv, group), kv) for kv in ranges(even(kv_heads, world))]
    pairs = []
    for kv, sharing in enumerate(even(world, kv_heads)):  # ranks that hold this KV head
        for part in ranges(even(group, sharing)):
            pairs.append((range(kv * group + part.start, kv * group + part.stop), range(kv, kv + 1)))
    return pairs


def _columns(cfg: DecoderConfig, attention: Sequence[int]) -> list[range]:
    """Return each rank's MLP columns; `attention[rank]` counts the rank's attention weights by hidden size.

    A column has three weights for each hidden element: gate, up and down.
    """
    world, size = len(attention), cfg.intermediate_size
    step = math.gcd(size, _STEP)
    while step > 1 and size < 2 * world * step:
        step //= 2
    each = (sum(attention) + 3 * size) / world
    ends = accumulate((each - own) / 3 for own in attention)
    bounds = [0, *(round(end / step) * step for end in ends)]
    bounds[-1] = size
    if any(end <= start for start, end in pairwise(bounds)):
        bounds = [0, *accumulate(even(size, world))]
    return [range(start, end) for start, end in pairwise(bounds)]


def _times(heads: range, size: int) -> range:
    """Return the elements of a range of heads, `size` elements each."""
    return range(heads.start * size, heads.stop * size)
