"""npu_fusion_attention, forward and backward: attention for training, also behind F.scaled_dot_product_attention.

Rules are those of its page in op-plugin's documents. `pse` is refused, because two formulas differ: the
page adds `pse` to the scaled scores, CANN's own formula scales `pse` with the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from helpers.emulated_npu.attention import (
    COMPRESSED_MODES,
    attend,
    hidden_scores,
    is_compressed_shape,
    require_triangle,
    split_heads,
)
from helpers.emulated_npu.errors import emulated, require
from helpers.emulated_npu.kernels.random import unpacked
from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()
_NAME = "npu_fusion_attention"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_RANKS = {"BSH": 3, "SBH": 3, "BSND": 4, "BNSD": 4, "TND": 3}
_LONGEST = 1 << 20
_MOST_SEQUENCES = 1024  # the page says 2K and, in the same sentence, 1K for packed sequences: the smaller one
# views of a tensor as [batch, heads, tokens, head size]
_AS_BNSD: dict[str, Callable[[Tensor, int], Tensor]] = {
    "BSH": lambda t, heads: split_heads(t, 2, heads).transpose(1, 2),
    "SBH": lambda t, heads: split_heads(t, 2, heads).permute(1, 2, 0, 3),
    "BSND": lambda t, heads: t.transpose(1, 2),
    "BNSD": lambda t, heads: t,
}


@dataclass(frozen=True)
class _Attention:
    """The arguments that forward and backward share."""

    q: Tensor
    k: Tensor
    v: Tensor
    pse: Tensor | None
    dropout: Tensor | None
    padding: Tensor | None
    mask: Tensor | None
    prefix: Sequence[int] | None
    q_ends: Sequence[int] | None
    kv_ends: Sequence[int] | None
    scale: float
    keep_prob: float
    before: int
    after: int
    heads: int
    layout_bytes: bytes
    inner_precise: int
    sparse_mode: int

    @property
    def layout(self) -> str:
        """Return the call's input_layout as text."""
        return self.layout_bytes.decode()

    @property
    def kv_heads(self) -> int:
        """Return the number of heads of key and value."""
        if self.layout in ("BSH", "SBH"):
            return self.k.shape[2] * self.heads // self.q.shape[2]
        return self.k.shape[1 if self.layout in ("BNSD", "TND") else 2]

    def check(self) -> None:
        """Raise ContractError for what the page forbids, as far as contents do not matter."""
        emulated(
            self.pse is None and self.padding is None and not self.prefix,
            f"{_NAME} with pse, padding_mask or prefix",
        )
        require(self.layout in _RANKS, f"{_NAME}: input_layout is one of {', '.join(_RANKS)}", self.layout)
        dtypes = (self.q.dtype, self.k.dtype, self.v.dtype)
        require(
            dtypes[0] in _FLOATS and len(set(dtypes)) == 1,
            f"{_NAME}: query, key, value share float16, bfloat16 or float32",
            dtypes,
        )
        require(0 < self.keep_prob <= 1, f"{_NAME}: keep_prob lies in (0, 1]", self.keep_prob)
        self._check_shapes()
        if self.layout == "TND":
            self._check_ends("actual_seq_qlen", self.q_ends, self.q.shape[0])
            self._check_ends("actual_seq_kvlen", self.kv_ends, self.k.shape[0])
            both = (len(self.q_ends or ()), len(self.kv_ends or ()))
            require(both[0] == both[1], f"{_NAME}: as many query as key/value lengths", both)
        if self.mask is not None:
            self._check_mask(self.mask)

    def _check_shapes(self) -> None:
        """Check ranks, heads and head size.

        Key and value must have one shape, as one sentence of the page says; another sentence allows Dk >= Dv.
        """
        shapes = [tuple(t.shape) for t in (self.q, self.k, self.v)]
        rank = _RANKS[self.layout]
        require(all(len(s) == rank for s in shapes), f"{_NAME}: {self.layout} has {rank} dimensions", shapes)
        require(shapes[1] == shapes[2], f"{_NAME}: key and value have one shape", shapes[1:])
        require(1 <= self.heads <= 256, f"{_NAME}: 1 to 256 query heads", self.heads)
        if self.layout in ("BSH", "SBH"):
            require(
                shapes[0][2] % self.heads == 0,
                f"{_NAME}: query's last size is a multiple of head_num {self.heads}",
                shapes[0],
            )
            size = shapes[0][2] // self.heads
            require(
                shapes[1][2] % size == 0,
                f"{_NAME}: key's last size is a multiple of head size {size}",
                shapes[1],
            )
        else:
            size = shapes[0][-1]
            came = shapes[0][1 if self.layout in ("BNSD", "TND") else 2]
            require(came == self.heads, f"{_NAME}: head_num is query's heads, {came}", self.heads)
            require(shapes[1][-1] == size, f"{_NAME}: query and key have one head size", shapes[:2])
        require(1 <= size <= 768, f"{_NAME}: head size from 1 to 768", size)
        heads = (self.heads, self.kv_heads)
        require(
            heads[1] > 0 and heads[0] % heads[1] == 0,
            f"{_NAME}: query heads are a multiple of key/value heads",
            heads,
        )
        if self.layout != "TND":
            axis = 1 if self.layout == "SBH" else 0
            require(
                shapes[0][axis] == shapes[1][axis], f"{_NAME}: query and key have one batch size", shapes[:2]
            )

    def _check_ends(self, name: str, ends: Sequence[int] | None, tokens: int) -> None:
        """Check lengths of packed sequences: cumulative, from the first length to the number of tokens."""
        require(bool(ends), f"{_NAME}: TND needs {name}", ends)
        ends = ends or ()
        emulated(ends[-1] != 0 or tokens == 0, f"{_NAME} with trailing sequences that are switched off")
        rising = ends[0] >= 0 and all(a <= b for a, b in pairwise(ends))
        require(
            rising and ends[-1] == tokens,
            f"{_NAME}: {name} is cumulative and ends in {tokens} tokens",
            list(ends)[-8:],
        )
        require(
            len(ends) <= _MOST_SEQUENCES, f"{_NAME}: at most {_MOST_SEQUENCES} packed sequences", len(ends)
        )
        require(1 <= tokens <= _LONGEST, f"{_NAME}: 1 to {_LONGEST} tokens", tokens)

    def _check_mask(self, mask: Tensor) -> None:
        """Check mode, dtype and shape of the mask."""
        emulated(not 5 <= self.sparse_mode <= 8, f"{_NAME} with sparse_mode {self.sparse_mode}")
        require(self.sparse_mode in range(5), f"{_NAME}: sparse_mode is 0 to 8", self.sparse_mode)
        require(mask.dtype in (torch.bool, torch.uint8), f"{_NAME}: atten_mask is bool or uint8", mask.dtype)
        shape = tuple(mask.shape)
        if self.sparse_mode in COMPRESSED_MODES:
            require(
                is_compressed_shape(mask),
                f"{_NAME}: sparse_mode {self.sparse_mode} takes a 2048x2048 mask",
                shape,
            )
            return
        parts = list(self.sequences())
        q_len, kv_len = (max(part[i].shape[1] for part in parts) for i in (0, 1))
        square, batch = (q_len, kv_len), len(parts)
        allowed: set[tuple[int, ...]] = {square}
        if self.layout != "TND":
            allowed |= {(n, m, *square) for n, m in ((1, 1), (batch, 1), (batch, self.heads))}
        require(shape in allowed, f"{_NAME}: atten_mask has one of the shapes {sorted(allowed)}", shape)

    def sequences(self, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield, for each sequence, views `[heads, tokens, size]` of q, k, v and of `others` that are shaped
        like q.
        """
        kinds = [
            (self.q, self.heads),
            (self.k, self.kv_heads),
            (self.v, self.kv_heads),
            *((t, self.heads) for t in others),
        ]
        if self.layout != "TND":
            views = [_AS_BNSD[self.layout](t, heads) for t, heads in kinds]
            yield from zip(*views, strict=True)
            return
        rows = list(zip((0, *(self.q_ends or ())), self.q_ends or (), strict=False))
        columns = list(zip((0, *(self.kv_ends or ())), self.kv_ends or (), strict=False))
        for (a, b), (c, d) in zip(rows, columns, strict=True):
            spans = [slice(a, b), slice(c, d), slice(c, d), *(slice(a, b) for _ in others)]
            yield tuple(t[span].transpose(0, 1) for (t, _), span in zip(kinds, spans, strict=True))

    def check_contents(self) -> None:
        """Raise ContractError for a compressed mask that is not the triangle."""
        if self.mask is not None and self.sparse_mode in COMPRESSED_MODES:
            require_triangle(_NAME, self.mask)

    def hidden(self, index: int, q: Tensor, k: Tensor) -> Tensor | None:
        """Return what the queries of sequence `index` do not see: nothing without a mask, whatever the mode.

        Raises ContractError for a mask with wrong contents.
        """
        if self.mask is None:
            return None
        if self.sparse_mode in COMPRESSED_MODES:
            return hidden_scores(q.shape[1], k.shape[1], self.sparse_mode, self.mask, self.before, self.after)
        mask = self.mask if self.mask.dim() == 2 else self.mask[index if self.mask.shape[0] > 1 else 0]
        mask = mask[..., : q.shape[1], : k.shape[1]].bool()
        hidden = hidden_scores(q.shape[1], k.shape[1], self.sparse_mode, mask, self.before, self.after)
        if hidden is not None:
            agrees = torch.equal(hidden.expand(mask.shape), mask)
            require(
                agrees,
                f"{_NAME}: atten_mask hides all that pre_tockens and next_tockens exclude",
                (self.before, self.after),
            )
            full = self.layout != "TND" or not bool(hidden.all(-1).any())
            require(
                full,
                f"{_NAME}: packed sequences take no mask with a row that hides everything",
                tuple(mask.shape),
            )
        return hidden

    def keeps(self) -> list[Tensor | None]:
        """Return the dropout mask of each sequence: one bit for each score, sequence after sequence."""
        parts = list(self.sequences())
        if self.dropout is None or self.dropout.numel() == 0:
            return [None] * len(parts)
        masks: list[Tensor | None] = []
        bits, at = unpacked(self.dropout, self.dropout.numel() * 8), 0
        for q, k, _ in parts:
            shape = (q.shape[0], q.shape[1], k.shape[1])
            count = shape[0] * shape[1] * shape[2]
            masks.append(bits[at : at + count].reshape(shape).float())
            at += count
        return masks

    def statistics(self, t: Tensor) -> list[Tensor]:
        """Return views `[heads, tokens, 8]` of softmax_max or softmax_sum, one for each sequence.

        Of packed sequences torch_npu sees `[T, N, 8]`, but the data lie in the order `[N, T, 8]`. So the page
        says of the default softmax_layout.
        """
        if self.layout != "TND":
            return list(t)
        ordered = t.view(self.heads, -1, t.shape[-1])
        return [ordered[:, a:b] for a, b in zip((0, *(self.q_ends or ())), self.q_ends or (), strict=False)]


def _forward(call: _Attention, maxima: Tensor, totals: Tensor, out: Tensor) -> None:
    """Compute attention of every sequence, with the statistics that the backward pass needs."""
    call.check_contents()
    parts = zip(
        call.sequences(out), call.keeps(), call.statistics(maxima), call.statistics(totals), strict=True
    )
    for index, ((q, k, v, o), keep, maximum, total) in enumerate(parts):
        hidden = call.hidden(index, q, k)
        attended = attend(q, k, v, call.scale, hidden, keep=keep, keep_prob=call.keep_prob)
        store(o, attended.out)
        maximum.copy_(attended.maximum)
        total.copy_(attended.total)


def _backward(call: _Attention, dy: Tensor, maxima: Tensor, totals: Tensor, grads: Sequence[Tensor]) -> None:
    """Compute the gradients of q, k and v, from the saved maximum and sum, as the real kernel computes them."""
    dq, dk, dv = grads
    targets = _Attention(**{**vars(call), "q": dq, "k": dk, "v": dv})
    parts = zip(
        call.sequences(dy),
        targets.sequences(),
        call.keeps(),
        call.statistics(maxima),
        call.statistics(totals),
        strict=True,
    )
    for index, ((q, k, v, g), (gq, gk, gv), keep, maximum, total) in enumerate(parts):
        repeat = q.shape[0] // k.shape[0]
        queries, g = q.float(), g.float()
        keys, values = (t.float().repeat_interleave(repeat, 0) for t in (k, v))
        scores = queries @ keys.transpose(1, 2) * call.scale
        weights = (scores - maximum[..., :1]).exp() / total[..., :1].clamp_min(1e-38)
        hidden = call.hidden(index, q, k)
        if hidden is not None:
            weights = weights.masked_fill(hidden, 0)
        kept = 1.0 if keep is None else keep / call.keep_prob
        dweights = g @ values.transpose(1, 2) * kept
        dscores = weights * (dweights - (dweights * weights).sum(-1, True)) * call.scale
        store(gq, dscores @ keys)
        store(gk, _folded(dscores.transpose(1, 2) @ queries, repeat))
        store(gv, _folded((weights * kept).transpose(1, 2) @ g, repeat))


def _folded(t: Tensor, repeat: int) -> Tensor:
    """Return the sums over the query heads that share a key/value head."""
    return split_heads(t, 0, t.shape[0] // repeat).sum(1)


def _plain(*args: Any) -> _Attention:
    """Return the arguments of sequences in a batch: q k v pse dropout padding mask prefix scale ..."""
    return _Attention(*(*args[:8], None, None, *args[8:]))


def _enter_forward(name: str, signature: str, make: Callable[..., _Attention]) -> None:
    """Enter a forward operator; its last four arguments are maxima, totals, an unused output and the output."""

    def run(*args: Any) -> None:
        *inputs, maxima, totals, _, out = args
        _forward(make(*inputs), maxima, totals, out)

    OPERATORS.op(name, signature, check=lambda *args: make(*args[:-4]).check())(run)


def _enter_backward(name: str, signature: str, make: Callable[..., _Attention]) -> None:
    """Enter a backward operator: q k v dy pse dropout padding mask maxima totals (two unused) prefix ... dq
    dk dv dpse.
    """

    def run(*args: Any) -> None:
        q, k, v, dy, pse, dropout, padding, mask, maxima, totals, _, _, *rest = args
        *rest, dq, dk, dv, _ = rest
        call = make(q, k, v, pse, dropout, padding, mask, *rest)
        call.check()
        _backward(call, dy, maxima, totals, (dq, dk, dv))

    OPERATORS.op(name, signature)(run)


_enter_forward("FlashAttentionScore", "TTT TTTT A ddiiisii TTTT", _plain)
_enter_forward("FlashAttentionVarLenScore", "TTT TTTT AAA ddiiisii TTTT", _Attention)
_enter_backward("FlashAttentionScoreGrad", "TTTT TTTT TTTT A ddiiisii TTTT", _plain)
_enter_backward("FlashAttentionUnpaddingScoreGrad", "TTTT TTTT TTTT AAA ddiiisii TTTT", _Attention)
