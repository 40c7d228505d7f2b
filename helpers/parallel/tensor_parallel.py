"""Tensor parallelism: each rank holds a part of every layer, and two sums a layer make the parts whole.

Columns first, then rows (Megatron-LM, arXiv:1909.08053): a rank's heads and its part of the MLP need nothing of other
ranks until the matrix behind them, whose products are summands. All else of the decoder stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache
from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM, Linear
from helpers.ops import by_device as ops
from helpers.parallel.collectives import Collectives
from helpers.parallel.shards import Shard


class RowParallel(Linear):
    """A matrix cut along its input: each rank's product is a summand, and the bias is added once, to the sum."""

    def __init__(self, width: int, hidden: int, bias: bool, collectives: Collectives):
        """Take this rank's part of the input's width."""
        super().__init__(width, hidden, bias=bias)
        self.collectives = collectives

    def forward(self, x: Tensor) -> Tensor:
        """Return the whole product, on each rank: `x [T, width]` -> `[T, hidden]`."""
        weight = self.weight if self.plain is None or len(x) >= self.packed_from else self.plain
        total = self.collectives.all_reduce(ops.linear(x, weight).contiguous())
        return total if self.bias is None else total.add_(self.bias)


class VocabularyEmbedding(nn.Embedding):
    """A rank's rows of the embedding. Tokens of other ranks count 0 here, and a sum over ranks gives all."""

    def __init__(self, rows: range, hidden: int, collectives: Collectives):
        """Take the tokens whose rows this rank has."""
        super().__init__(len(rows), hidden)
        self.rows, self.collectives = rows, collectives

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the tokens' rows, on each rank: `[T]` -> `[T, hidden]`."""
        here = (token_ids >= self.rows.start) & (token_ids < self.rows.stop)
        own = super().forward((token_ids - self.rows.start).clamp(0, len(self.rows) - 1))
        return self.collectives.all_reduce(own.masked_fill_(~here.unsqueeze(-1), 0.0))


class TensorParallelLM(DecoderLM):
    """One rank's part of a decoder; all ranks compute the same batches at the same time.

    `cfg` has this rank's heads and columns, so that caches made for this model have this rank's sizes. A pass costs
    `2 * layers + 1` sums of `[T, hidden]`, and one gather of fp32 logits.
    """

    alone = False

    def __init__(self, cfg: DecoderConfig, shards: Sequence[Shard], collectives: Collectives):
        """Make the part of this rank of the group; `cfg` is the whole model's config, `shards` has one for each rank."""
        shard = shards[collectives.rank]
        super().__init__(shard.config(cfg))
        self.shard, self.shards, self.collectives = shard, tuple(shards), collectives
        self._widths = [len(each.vocab) for each in shards]
        self.embed_tokens = VocabularyEmbedding(shard.vocab, cfg.hidden_size, collectives)
        if self.lm_head is not None:
            self.lm_head = Linear(cfg.hidden_size, len(shard.vocab), bias=False)
        layers: Any = self.layers
        for layer in layers:
            width = len(shard.heads) * cfg.head_dim
            layer.attn.o_proj = RowParallel(width, cfg.hidden_size, cfg.o_bias, collectives)
            layer.mlp.down_proj = RowParallel(len(shard.columns), cfg.hidden_size, cfg.mlp_bias, collectives)

    @torch.inference_mode()
    def compute(self, batch: FlatBatch, cache: Cache, logits: Literal["last", "all"] = "last") -> Tensor:
        """Return the logits of the whole vocabulary, the same on each rank; as in `DecoderLM`."""
        return self.collectives.all_gather(super().compute(batch, cache, logits), self._widths)
