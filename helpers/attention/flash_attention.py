"""FlashAttention: exact attention tile by tile. Memory grows with the length, not with its square.

This is readable torch for every device: what a fused kernel does in on-chip memory is done with small
tensors. Algorithm: FlashAttention (arXiv:2205.14135). Queries and keys have tiles of their own, and there is
one division, at the end: FlashAttention-2 (arXiv:2307.08691). Keys may be split and merged (flash decoding).
Sinks (arXiv:2309.17453) have the learned form of gpt-oss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from helpers.attention.flash_inputs import Inputs
from helpers.attention.flash_tiles import Problem, attend, gradients
from helpers.attention.online_softmax import Partial, merge
from helpers.attention.tiles import Tile, Tiling, Visibility

__all__ = ["FlashAttention", "Partial", "TileState", "merge"]


@dataclass(frozen=True)
class TileState:
    """Hold what is known after one tile, for pictures: copies, which later tiles do not change."""

    tile: Tile
    scores: Tensor
    """`[batch, heads, queries, keys]`: the scaled scores of this tile; hidden scores are minus infinity."""
    maximum: Tensor
    """`[batch, heads, queries]`: each query's largest score so far."""
    total: Tensor
    """`[batch, heads, queries]`: the sum of `exp(score - maximum)` so far."""
    out: Tensor
    """`[batch, heads, queries, dim]`: attention over the keys so far."""


class FlashAttention:
    """Compute attention `softmax(scale * Q K^T) V` over tiles of `query_block` queries and `block_size` keys.

    Attention is causal unless `causal` is False; the last query sees the last key. Scores and statistics are
    fp64 for fp64 input, and fp32 otherwise. Where scores can be so large that the rounding of fp32 would show
    in the result, scores are fp64, too. Beside the result, the memory needed is one tile of scores per head.
    """

    def __init__(
        self,
        block_size: int = 64,
        query_block: int = 256,
        *,
        causal: bool = True,
        window: int | None = None,
        scale: float | None = None,
        num_splits: int = 1,
    ):
        """Set tiles and mask. Raises ValueError for a size below 1 and for a scale that is not finite.

        `window`: a query sees the keys less than `window` positions away; its own position counts. `scale`:
        the factor of the scores, `head_dim ** -0.5` if None. `num_splits`: the number of parts of the keys.
        Each part is computed alone, then the parts are merged. With a single query, a kernel splits the keys
        to have work for all cores.
        """
        self.tiling = Tiling(query_block, block_size)
        for name, size in (("window", 1 if window is None else window), ("num_splits", num_splits)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} is a whole number from 1, got {size!r}")
        if scale is not None and not math.isfinite(scale):
            raise ValueError(f"scale is a finite number, got {scale!r}")
        self.causal, self.window, self.scale, self.num_splits = causal, window, scale, num_splits

    @overload
    def forward(
        self, Q: Tensor, K: Tensor, V: Tensor, *, q_lens: Sequence[int] | None = ...,
        kv_lens: Sequence[int] | None = ..., sinks: Tensor | None = ..., return_lse: Literal[False] = False,
    ) -> Tensor: ...  # fmt: skip
    @overload
    def forward(
        self, Q: Tensor, K: Tensor, V: Tensor, *, q_lens: Sequence[int] | None = ...,
        kv_lens: Sequence[int] | None = ..., sinks: Tensor | None = ..., return_lse: Literal[True],
    ) -> Partial: ...  # fmt: skip
    def forward(
        self,
        Q: Tensor,
        K: Tensor,
        V: Tensor,
        *,
        q_lens: Sequence[int] | None = None,
        kv_lens: Sequence[int] | None = None,
        sinks: Tensor | None = None,
        return_lse: bool = False,
    ) -> Tensor | Partial:
        """Return attention in Q's shape and dtype, with V's head size; with `return_lse` also its lse.

        The lse is the log-sum-exp of a query's scores. Q is `[batch, seq, dim]` or
        `[batch, heads, seq, head_dim]`. K and V have as many dimensions as Q, and a length of their own. In
        four dimensions, the number of heads of K and V divides Q's: consecutive query heads share a key head.
        `q_lens`, `kv_lens`: how many queries and keys of each sequence count; the other queries give 0. A key
        that no query sees is never read, whatever its value. `sinks` `[heads]`: a score per head that takes a
        share of the weights and has no value. A query that sees no key gives 0, and its lse is minus infinity
        (or its sink). The lse is fp32 (fp64 for fp64 input), `[batch, seq]` or `[batch, heads, seq]`; a sink
        is part of the lse. Gradients of Q, K, V and sinks are computed by recomputing the tiles. Raises
        ValueError, before any work, for tensors that do not fit together.
        """
        given = Inputs.of(Q, K, V, q_lens, kv_lens, sinks)
        if given.q_lens is None:
            parts = Partial(*self._whole(given.q, given.k, given.v, sinks))
        else:
            parts = self._ragged(given, sinks)
        out, lse = (t.squeeze(1) for t in parts) if Q.dim() == 3 else parts
        return Partial(out, lse) if return_lse else out

    __call__ = forward

    def steps(self, Q: Tensor, K: Tensor, V: Tensor) -> Iterator[TileState]:
        """Yield the state after every tile, skipped tiles included, in the order of computation.

        The tensors are as for `forward`. The last state of each block of queries holds the block's result.
        Splits and gradients play no part here. Raises ValueError, before any work, for tensors that do not
        fit together.
        """
        given = Inputs.of(Q, K, V, None, None, None)
        return self._steps(given.q.detach(), given.k.detach(), given.v.detach())

    def visibility(self, q_len: int, kv_len: int) -> Visibility:
        """Return which keys each query sees."""
        return Visibility(q_len, kv_len, self.causal, self.window)

    def _problem(self, q: Tensor, k: Tensor) -> Problem:
        """Return what the tiles of these tensors have in common."""
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        return Problem.of(q, k, self.visibility(q.shape[2], k.shape[2]), self.tiling, scale, self.num_splits)

    def _whole(self, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return attention of sequences of equal lengths, `[batch, heads, seq, dim]`, and its log-sum-exp."""
        apply: Any = _Attention.apply
        result: tuple[Tensor, Tensor] = apply(q, k, v, sinks, self._problem(q, k))
        return result

    def _ragged(self, given: Inputs, sinks: Tensor | None) -> Partial:
        """Return attention sequence by sequence, each sequence in its own lengths."""
        assert given.q_lens is not None
        assert given.kv_lens is not None
        batch, heads, seq, _ = given.q.shape
        out = given.q.new_zeros(batch, heads, seq, given.v.shape[-1])
        lse = torch.full((batch, heads, seq), float("-inf"), dtype=given.statistics, device=given.q.device)
        for i, (n, m) in enumerate(zip(given.q_lens, given.kv_lens, strict=True)):
            one = slice(i, i + 1)
            out[one, :, :n], lse[one, :, :n] = self._whole(
                given.q[one, :, :n], given.k[one, :, :m], given.v[one, :, :m], sinks
            )
        return Partial(out, lse)

    def _steps(self, q: Tensor, k: Tensor, v: Tensor) -> Iterator[TileState]:
        """Yield the states of `steps`, for checked tensors."""
        problem = self._problem(q, k)
        for q_start, q_end in self.tiling.query_tiles(q.shape[2]):
            queries = problem.queries(q, q_start, q_end)
            state = problem.start(queries, v)
            for tile in self.tiling.row(problem.seen, q_start, q_end):
                scores = problem.scores(queries, k, tile)
                if tile.kind != "skipped":
                    used = problem.seen.clip(tile)
                    columns = slice(used.k_start - tile.k_start, used.k_end - tile.k_start)
                    state.add(scores[..., columns].clone(), problem.values(v, used))
                parts = (scores, state.maximum, state.total, state.result().out)
                shown, maximum, total, out = (problem.unfold(part).clone() for part in parts)
                yield TileState(tile, shown, maximum.squeeze(-1), total.squeeze(-1), out)


class _Attention(torch.autograd.Function):
    """Compute attention for autograd.

    The result and the lse are kept; the backward pass computes the tiles anew.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, problem: Problem
    ) -> tuple[Tensor, Tensor]:
        """Return attention and its log-sum-exp."""
        out, lse = attend(q, k, v, sinks, problem)
        ctx.save_for_backward(q, k, v, sinks, out, lse)
        ctx.problem = problem
        return out, lse.to(problem.statistics)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `forward`'s arguments."""
        q, k, v, sinks, out, lse = ctx.saved_tensors
        return *gradients(q, k, v, sinks, out, lse, d_out, d_lse, ctx.problem), None
