"""The loops of FlashAttention over tiles: forward, and backward by recomputation.

Query heads that share a key head are folded: their queries stand one after the other over the same keys. So
no key or value is repeated. A folded tensor is `[batch * kv_heads, groups * queries, dim]`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.attention.online_softmax import OnlineSoftmax, Partial, finite
from helpers.attention.tiles import Tile, Tiling, Visibility

LARGE_SCORE = 32.0
"""Size from which an fp32 score is so coarse (4e-6) that its rounding shows in an fp32 result."""


@dataclass(frozen=True)
class Problem:
    """Hold what all tiles of one attention have in common."""

    seen: Visibility
    tiling: Tiling
    scale: float
    num_splits: int
    heads: int
    groups: int
    """Query heads for each key head."""
    statistics: torch.dtype
    """Dtype of maxima, sums and weighted values."""
    precision: torch.dtype
    """Dtype of scores, until their maximum is subtracted."""

    @classmethod
    def of(
        cls, q: Tensor, k: Tensor, seen: Visibility, tiling: Tiling, scale: float, num_splits: int
    ) -> Problem:
        """Return the problem of `q [B, H, n, D]` and `k [B, KV, m, D]`."""
        statistics = precision = torch.float64 if q.dtype == torch.float64 else torch.float32
        visible = k[:, :, seen.first(0) : seen.end(seen.q_len - 1)]
        if q.dtype != torch.float64 and _multiplies_doubles(q.device):
            precision = torch.float64 if _score_bound(q, visible, scale) > LARGE_SCORE else statistics
        heads, groups = q.shape[1], q.shape[1] // k.shape[1]
        return cls(seen, tiling, scale, num_splits, heads, groups, statistics, precision)

    def splits(self) -> Iterator[tuple[int, int]]:
        """Yield start and end of each part of the keys that is computed alone."""
        size = max(1, math.ceil(self.seen.kv_len / self.num_splits))
        for start in range(0, max(1, self.seen.kv_len), size):
            yield start, min(start + size, self.seen.kv_len)

    def queries(self, q: Tensor, start: int, end: int) -> Tensor:
        """Return a block of queries, folded, in the dtype of scores."""
        return self.fold(q[:, :, start:end]).to(self.precision)

    def fold(self, x: Tensor) -> Tensor:
        """Return a tensor `[B, H, n, D]` as `[B * KV, groups * n, D]`."""
        batch, heads, n, dim = x.shape
        return x.reshape(batch * heads // self.groups, self.groups * n, dim)

    def unfold(self, x: Tensor) -> Tensor:
        """Return a tensor `[B * KV, groups * n, D]` as `[B, H, n, D]`, a view."""
        batch, n, dim = x.shape
        return x.view(batch * self.groups // self.heads, self.heads, n // self.groups, dim)

    def values(self, v: Tensor, tile: Tile) -> Tensor:
        """Return the tile's values `[B * KV, keys, D]`, in the dtype of statistics."""
        return v[:, :, tile.k_start : tile.k_end].flatten(0, 1).to(self.statistics)

    def keys(self, k: Tensor, tile: Tile) -> Tensor:
        """Return the tile's keys `[B * KV, keys, D]`, in the dtype of scores."""
        return k[:, :, tile.k_start : tile.k_end].flatten(0, 1).to(self.precision)

    def scores(self, queries: Tensor, k: Tensor, tile: Tile) -> Tensor:
        """Return the tile's scores, folded; hidden scores are minus infinity."""
        keys = self.keys(k, tile).transpose(1, 2)
        scores = torch.baddbmm(queries.new_empty(()), queries, keys, beta=0, alpha=self.scale)
        if tile.kind != "full":
            self.unfold(scores).masked_fill_(self.seen.hidden(tile, scores.device), float("-inf"))
        return scores

    def start(self, queries: Tensor, v: Tensor, sinks: Tensor | None = None) -> OnlineSoftmax:
        """Return the state before the first tile. A sink is one more key, seen already, with a value of 0."""
        state = OnlineSoftmax.empty(queries.shape[:-1], v.shape[-1], self.statistics, queries.device)
        if sinks is not None:
            per_head = self.unfold(state.maximum)
            state.maximum = self.fold(sinks.to(self.statistics)[:, None, None].expand_as(per_head))
            state.total.fill_(1.0)
        return state


def attend(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, problem: Problem) -> Partial:
    """Return attention `[B, H, n, D]` in q's dtype, and its lse `[B, H, n]` in the dtype of scores."""
    q_len = q.shape[2]
    out = q.new_empty(*q.shape[:3], v.shape[-1])
    lse = torch.empty(q.shape[:3], dtype=problem.precision, device=q.device)
    for start, end in problem.tiling.query_tiles(q_len):
        queries = problem.queries(q, start, end)
        out[:, :, start:end], lse[:, :, start:end] = _attend_block(queries, k, v, sinks, problem, start, end)
    return Partial(out, lse)


def _attend_block(
    queries: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, problem: Problem, start: int, end: int
) -> Partial:
    """Return attention `[B, H, n, D]` of one block of folded queries, and its log-sum-exp."""
    state = problem.start(queries, v, sinks)
    for keys in problem.splits():
        part = state if keys[0] == 0 else problem.start(queries, v)
        for tile in problem.tiling.visited(problem.seen, start, end, keys):
            part.add(problem.scores(queries, k, tile), problem.values(v, tile))
        if part is not state:
            state.join(part)
    out, lse = state.result(problem.precision)
    return Partial(problem.unfold(out), problem.unfold(lse[..., None])[..., 0])


def gradients(
    q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, out: Tensor, lse: Tensor, d_out: Tensor,
    d_lse: Tensor, problem: Problem,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Return the gradients of q, k, v and sinks; weights are computed anew as `exp(score - lse)`.

    Source: arXiv:2205.14135, algorithm 4.
    """
    dq = torch.empty_like(q)
    dk, dv = (torch.zeros_like(t, dtype=problem.statistics) for t in (k, v))
    d_out = d_out.to(problem.statistics)
    # Weights sum to 1, so one number is subtracted in the gradients of all scores of a query. The derivative
    # of the lse by a score is the score's weight, so the gradient of the lse is taken off that number.
    loss = (d_out * out).sum(dim=-1, keepdim=True) - d_lse[..., None]
    shift = finite(lse)[..., None]
    for start, end in problem.tiling.query_tiles(q.shape[2]):
        folded = tuple(problem.fold(t[:, :, start:end]) for t in (q, d_out, loss, shift))
        block = _query_gradient(folded, (k, v), (dk, dv), problem, start, end)
        dq[:, :, start:end] = problem.unfold(block)
    d_sinks = None
    if sinks is not None:
        share = (sinks[:, None, None] - shift).exp()
        d_sinks = -(share * loss).sum(dim=(0, 2, 3)).to(sinks.dtype)
    return dq, dk.to(k.dtype), dv.to(v.dtype), d_sinks


def _query_gradient(
    folded: tuple[Tensor, ...],
    kv: tuple[Tensor, Tensor],
    d_kv: tuple[Tensor, Tensor],
    problem: Problem,
    start: int,
    end: int,
) -> Tensor:
    """Return the gradient of a block of queries, folded; add to the gradients of keys and values, `d_kv`.

    `folded` are four tensors of the block: queries, gradient of the result, what scores lose, and lse.
    """
    (q, d_out, loss, shift), (k, v) = folded, kv
    queries = q.to(problem.precision)
    dq = torch.zeros_like(q, dtype=problem.statistics)
    for tile in problem.tiling.visited(problem.seen, start, end):
        weights = (problem.scores(queries, k, tile) - shift).to(problem.statistics).exp_()
        d_scores = weights * (d_out @ problem.values(v, tile).transpose(1, 2) - loss) * problem.scale
        dq += d_scores @ problem.keys(k, tile).to(dq.dtype)
        d_keys, d_values = d_scores.transpose(1, 2) @ queries.to(dq.dtype), weights.transpose(1, 2) @ d_out
        for total, part in zip(d_kv, (d_keys, d_values), strict=True):
            total[:, :, tile.k_start : tile.k_end] += part.view(*k.shape[:2], *part.shape[1:])
    return dq


@functools.cache
def _multiplies_doubles(device: torch.device) -> bool:
    """Return whether the device has matrix products in fp64; on a device without them, scores stay fp32."""
    one = torch.ones(1, 1, 1, device=device)
    try:
        return bool(one.double() @ one.double() == 1)
    except (RuntimeError, TypeError):
        return False


def _score_bound(q: Tensor, k: Tensor, scale: float) -> float:
    """Return a number that no score exceeds: the longest query times the longest key, scaled."""
    if not q.numel() or not k.numel():
        return 0.0
    longest = [torch.linalg.vector_norm(t.detach(), dim=-1, dtype=torch.float32).max() for t in (q, k)]
    return float(longest[0] * longest[1]) * abs(scale)
