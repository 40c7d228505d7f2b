"""Attention over one sequence, and which scores a sparse mode hides: shared by all attention operators."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.emulated_npu.errors import require

COMPRESSED = 2048  # sparse modes 2 to 4 take an upper triangle of this size, whatever the lengths
CAUSAL_TOP_LEFT, CAUSAL_BOTTOM_RIGHT, BAND = 2, 3, 4
COMPRESSED_MODES = (CAUSAL_TOP_LEFT, CAUSAL_BOTTOM_RIGHT, BAND)


class Attended(NamedTuple):
    """The results of `attend`: `out` is `[N, Sq, Dv]`, the other tensors are `[N, Sq, 1]`.

    `maximum` is each row's largest score, `total` the sum of the exponentials. `blank` marks rows that see no
    key.
    """

    out: Tensor
    maximum: Tensor
    total: Tensor
    blank: Tensor

    @property
    def lse(self) -> Tensor:
        """Return `log(sum(exp(score)))`; infinite for a row that sees nothing."""
        return torch.where(self.blank, torch.tensor(math.inf), self.maximum + self.total.log())


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    hidden: Tensor | None,
    *,
    sink: Tensor | None = None,
    keep: Tensor | None = None,
    keep_prob: float = 1.0,
) -> Attended:
    """Return softmax attention in fp32 of `q [N, Sq, D]` over `k [KvN, Skv, D]` and `v [KvN, Skv, Dv]`.

    N is a multiple of KvN. `hidden` (True: not seen) broadcasts against `[N, Sq, Skv]`. `sink [N]` is one more score in each row's
    sum, with no value. `keep` is a dropout mask. A row that sees nothing gives zeros. A key that no query
    sees has no influence, not even with NaN in its value.
    """
    repeat = q.shape[0] // k.shape[0]
    keys, values = (t.float().repeat_interleave(repeat, 0) for t in (k, v))
    scores = (q.float() * scale) @ keys.transpose(1, 2)
    if hidden is not None:
        values = values.masked_fill(hidden.all(-2)[..., None], 0)
        scores.masked_fill_(hidden, -math.inf)
    if sink is not None:
        column = sink.float().reshape(-1, 1, 1).expand(*scores.shape[:2], 1)
        scores = torch.cat((scores, column), -1)
    maximum = scores.amax(-1, True) if scores.shape[-1] else torch.full((*scores.shape[:2], 1), -math.inf)
    blank = torch.isneginf(maximum)
    maximum.masked_fill_(blank, 0)  # then the exponentials of a row that sees nothing are 0
    weights = scores.sub_(maximum).exp_()
    total = weights.sum(-1, True)
    weights = weights.div_(total.masked_fill(blank, 1))[..., : keys.shape[1]]
    if keep is not None:
        weights = weights * keep / keep_prob
    return Attended(weights @ values, maximum, total, blank)


def split_heads(t: Tensor, axis: int, heads: int) -> Tensor:
    """Return a view of `t` whose dimension `axis` is split in two: `heads`, and the size of one head."""
    return t.view(*t.shape[:axis], heads, t.shape[axis] // heads, *t.shape[axis + 1 :])


def hidden_scores(
    q_len: int, kv_len: int, mode: int, mask: Tensor | None, before: int, after: int
) -> Tensor | None:
    """Return a mask `[q_len, kv_len]`, True where a query does not see a key; None when all keys are seen.

    Modes: 0 the mask, within the band of `before` and `after` keys; 1 the mask; 2 causal from the top left.
    Modes 3 and 4 start from the bottom right: 3 is causal, 4 a band.
    """
    if mask is None:
        return None
    row, column = torch.arange(q_len)[:, None], torch.arange(kv_len)[None]
    history = kv_len - q_len
    match mode:
        case 0:
            return mask.bool() | (column > row + after) | (column < row - before)
        case 1:
            return mask.bool()
        case 2:
            return column > row
        case 3:
            return column > row + history
        case _:
            return (column > row + history + after) | (column < row + history - before)


def require_triangle(name: str, mask: Tensor) -> None:
    """Raise ContractError unless a compressed mask hides exactly what lies above the diagonal."""
    flat = mask.reshape(-1)
    aligned = flat.storage_offset() % 8 == 0  # then eight one-byte elements at once: this runs in every call
    if aligned and torch.equal(flat.view(torch.int64), _triangle().reshape(-1).view(torch.int64)):
        return
    rule = f"{name}: the mask of sparse modes 2, 3 and 4 is torch.triu(torch.ones(2048, 2048), 1)"
    right = torch.equal(mask.reshape(COMPRESSED, COMPRESSED).bool(), _triangle())
    require(right, rule, f"a mask with {int(mask.bool().sum())} ones; in it True or 1 means hidden")


@cache
def _triangle() -> Tensor:
    """Return what a compressed mask must contain."""
    return torch.ones(COMPRESSED, COMPRESSED, dtype=torch.bool).triu(1)


def is_compressed_shape(mask: Tensor) -> bool:
    """Return whether a mask has the shape that sparse modes 2 to 4 take."""
    return mask.shape[-2:] == (COMPRESSED, COMPRESSED) and mask.numel() == COMPRESSED * COMPRESSED
