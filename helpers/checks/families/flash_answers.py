"""The answers to lab 7; with an option changed, wrong ones that its checks know by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

NONE = float("-inf")
State = tuple[Tensor, Tensor, Tensor]
TileList = list[tuple[int, int, bool]]


def traffic(
    q_len: int, kv_len: int, head_dim: int, query_block: int, element_bytes: int,
    *, rounded: Callable[[float], int] = math.ceil, per_query: int = 2, per_key: int = 2,
) -> int:  # fmt: skip
    """Return the right answer.

    `per_query`, `per_key`: vectors moved for each query, and for each key and block of queries.
    """
    blocks = rounded(q_len / query_block)
    return (per_query * q_len + per_key * blocks * kv_len) * head_dim * element_bytes


def update(
    maximum: Tensor, total: Tensor, weighted: Tensor, scores: Tensor, values: Tensor, *, largest: str = "all",
    guarded: bool = True, rescale: tuple[bool, bool] = (True, True), sign: int = 1, half: str = "", divide: bool = False,
    shifted: bool = True, lowest: float = NONE, counted: bool = False,
) -> State:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    of_block = scores.float().amax(dim=1, keepdim=True)
    first = torch.where(maximum == NONE, of_block, maximum)
    new = {"all": torch.maximum(maximum, of_block), "block": of_block, "old": maximum, "first": first}[
        largest
    ]
    shift = torch.where(new == NONE, 0.0, new) if guarded else new
    shift = new.clamp(min=lowest) if lowest != NONE else shift
    weights = (scores.float() - (shift if shifted else 0.0)).exp()
    weights = weights.half().float() if half == "weights" else weights
    correction = (sign * (maximum - shift)).exp() if shifted else torch.ones_like(maximum)
    keep = [correction if on else torch.ones_like(correction) for on in rescale]
    added = (weights.half().float() if half else weights) @ values.float()
    summed = weights.sum(dim=1, keepdim=True) if not counted else torch.full_like(total, scores.shape[1])
    total, weighted = total * keep[0] + summed, weighted * keep[1] + added
    return new, total, weighted / total if divide else weighted


def tiles(
    q_len: int, kv_len: int, query_block: int, key_block: int, *, offset: int | None = None, skips: str = "last",
    masks: str = "first", late: int = 0, whole: bool = False, early: int = 0, floor: int | None = None,
) -> TileList:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one.

    `skips`, `masks`: the query that decides.
    """
    shift = kv_len - q_len if offset is None else offset
    found = []
    for q_start in range(0, q_len, query_block):
        q_end = min(q_start + query_block, q_len)
        places = {
            "first": q_start + shift if floor is None else max(floor, q_start + shift),
            "last": q_end - 1 + shift,
            "nobody": kv_len,
            "beyond": q_end + shift,
        }
        for k_start in range(0, kv_len, key_block):
            k_end = k_start + key_block if whole else min(k_start + key_block, kv_len)
            masked = {"all": True, "never": False}.get(masks, k_end - 1 > places.get(masks, 0) - early)
            if k_start <= places[skips] - late:
                found.append((q_start, k_start, masked))
    return found


def merge(
    out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor, *, weights: str = "exp", total: str = "sum",
    guarded: bool = True, shifted: bool = True, swapped: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    out_a, lse_a, out_b, lse_b = (part.float() for part in (out_a, lse_a, out_b, lse_b))
    a, b = (lse.exp() for lse in (lse_a, lse_b))
    right = torch.logaddexp(lse_a, lse_b) if shifted else (a + b).log()
    base = torch.where(right == NONE, 0.0, right) if guarded else right
    share_a, share_b = {
        "exp": ((lse_a - base).exp(), (lse_b - base).exp()) if shifted else (a / (a + b), b / (a + b)),
        "mean": (torch.full_like(lse_a, 0.5),) * 2,
        "sum": (torch.ones_like(lse_a),) * 2,
        "lse": (lse_a / (lse_a + lse_b), lse_b / (lse_a + lse_b)),
        "unnormalised": (a, b),
        "larger": ((lse_a >= lse_b).float(), (lse_a < lse_b).float()),
    }[weights]
    if swapped:
        share_a, share_b = share_b, share_a
    lse = {
        "sum": right, "added": lse_a + lse_b, "max": torch.maximum(lse_a, lse_b), "exp": a + b,
        "mean": (lse_a + lse_b) / 2,
    }[total]  # fmt: skip
    return share_a[:, None] * out_a + share_b[:, None] * out_b, lse


def needs(head_dim: int, query_block: int, key_block: int) -> dict[str, int]:
    """Return the bytes that a tile takes in each buffer."""
    return {
        "l0a": 2 * query_block * max(head_dim, key_block),
        "l0b": 2 * key_block * head_dim,
        "l0c": 4 * query_block * max(head_dim, key_block),
        "l1": 2 * (query_block * head_dim + query_block * key_block + 4 * key_block * head_dim),
        "ub": 3 * query_block * key_block,
    }


def choose(head_dim: int, **sizes: int) -> tuple[int, int] | None:
    """Return the right answer."""
    steps = [
        range(16, sizes[name] // (2 * head_dim) + 1, 16) for name in ("l0a", "l0b")
    ]  # neither can be larger
    fitting = [(q, k) for q in steps[0] for k in steps[1] if not too_small(head_dim, q, k, sizes)]
    return max(fitting, default=None)


def too_small(head_dim: int, query_block: int, key_block: int, sizes: Mapping[str, int]) -> list[str]:
    """Return the buffers that the tile does not fit into."""
    return [name for name, need in needs(head_dim, query_block, key_block).items() if need > sizes[name]]
