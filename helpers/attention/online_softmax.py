"""Softmax over keys that arrive block by block: three running numbers per query, results that can be merged.

Online normalisation: Milakov and Gimelshein, arXiv:1805.02867. The same with values: FlashAttention,
arXiv:2205.14135. Merging parts of the keys: flash decoding, and arXiv:2501.01005.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Partial(NamedTuple):
    """Hold attention over some of the keys."""

    out: Tensor
    """`[..., queries, dim]`: the weighted mean of the values; 0 for a query that sees none of these keys."""
    lse: Tensor
    """`[..., queries]`: the log of the sum of exp(score); minus infinity for a query that sees none of these
    keys."""


class OnlineSoftmax:
    """Keep the running numbers of a block of queries, over the keys that were added so far.

    `maximum`: the largest score. `total`: the sum of `exp(score - maximum)`. `weighted`: the sum of the
    values with the same weights. `maximum` and `total` are `[..., queries, 1]`, `weighted` is
    `[..., queries, dim]`.
    """

    def __init__(self, maximum: Tensor, total: Tensor, weighted: Tensor):
        self.maximum, self.total, self.weighted = maximum, total, weighted

    @classmethod
    def empty(
        cls,
        shape: Sequence[int],
        dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> OnlineSoftmax:
        """Return the state before any key, for queries of this `shape` and values of size `dim`."""
        maximum = torch.full((*shape, 1), float("-inf"), dtype=dtype, device=device)
        return cls(maximum, torch.zeros_like(maximum), maximum.new_zeros(*shape, dim))

    def add(self, scores: Tensor, values: Tensor) -> None:
        """Take in a block of keys: `scores` `[b, queries, keys]` and `values` `[b, keys, dim]`.

        Hidden scores are minus infinity. Values have the state's dtype; scores have that dtype or a finer
        one. The tensor `scores` is overwritten.
        """
        maximum = torch.maximum(self.maximum, scores.amax(dim=-1, keepdim=True).to(self.maximum.dtype))
        shift = finite(maximum)  # a query that has seen no key yet would compute -inf minus -inf
        weights = scores.sub_(shift).to(maximum.dtype).exp_()
        correction = (self.maximum - shift).exp_()
        self.total.mul_(correction).add_(weights.sum(dim=-1, keepdim=True))
        self.weighted.mul_(correction).baddbmm_(weights, values)
        self.maximum = maximum

    def join(self, other: OnlineSoftmax) -> None:
        """Take in what another state of the same queries has seen, so that keys can be computed in parts."""
        maximum = torch.maximum(self.maximum, other.maximum)
        shares = [(state.maximum - finite(maximum)).exp_() for state in (self, other)]
        self.total = self.total * shares[0] + other.total * shares[1]
        self.weighted = self.weighted * shares[0] + other.weighted * shares[1]
        self.maximum = maximum

    def result(self, lse_dtype: torch.dtype | None = None) -> Partial:
        """Return attention over the keys so far, with the only division. `lse_dtype`: the state's if None."""
        out = self.weighted / self.total.masked_fill(self.total == 0, 1.0)
        lse = self.maximum.to(lse_dtype or self.maximum.dtype) + self.total.log()
        return Partial(out, lse.squeeze(-1))


def finite(statistic: Tensor) -> Tensor:
    """Return the statistic with 0 in place of minus infinity, because -inf minus -inf would be NaN."""
    return statistic.masked_fill(statistic == float("-inf"), 0.0)


def merge(parts: Sequence[Partial | tuple[Tensor, Tensor]]) -> Partial:
    """Return attention over all keys from attentions over parts of the keys.

    Each part has `out` `[..., queries, dim]` and `lse` `[..., queries]`. A part's weight is its share of the
    sum of all `exp(lse)`. Raises ValueError for no parts, and for parts of different shapes.
    """
    if not parts:
        raise ValueError("expected at least one part to merge")
    outs, lses = ([part[i] for part in parts] for i in (0, 1))
    for out, lse in zip(outs, lses, strict=True):
        if out.shape != outs[0].shape or lse.shape != out.shape[:-1]:
            want = f"out {tuple(outs[0].shape)} and lse {tuple(outs[0].shape[:-1])} in every part"
            raise ValueError(f"expected {want}, got {tuple(out.shape)} and {tuple(lse.shape)}")
    stacked = torch.stack(lses)
    total = stacked.logsumexp(dim=0)
    shares = (stacked - finite(total)).exp_()
    merged = sum(out.to(share.dtype) * share[..., None] for out, share in zip(outs, shares, strict=True))
    assert isinstance(merged, Tensor)  # for the type checker: there is at least one part
    return Partial(merged.to(outs[0].dtype), total)
