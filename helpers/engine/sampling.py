"""Choosing the next token from logits: the likeliest, or one drawn by temperature, top-k and top-p.

And the log-probabilities that a request asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from helpers.engine.request import Request, TokenLogprobs
from helpers.ops.torch_ops import likeliest

Row = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]


def choose(logits: Tensor, requests: Sequence[Request], places: Sequence[int]) -> list[int]:
    """Return one token for each row of fp32 `logits [B, vocab]`.

    `places[i]` is the new token's number in the answer of `requests[i]`. What is drawn depends only on the
    request's seed and the token's number, never on the other rows. Where a request may not stop yet
    (`min_tokens`), its stop tokens are left out. Raises ValueError for a row from which no token can be
    chosen: a row with a NaN, or without a finite largest number.
    """
    logits = _without_stops(logits, requests, places)
    best, values = likeliest(logits)
    for request, value in zip(requests, values, strict=True):
        if math.isnan(value):
            raise ValueError(f"the logits of request {request.request_id!r} are not a number (NaN)")
        if math.isinf(value):
            raise ValueError(
                f"request {request.request_id!r}: the largest logit is {value}, so none is chosen"
            )
    drawn = [i for i, request in enumerate(requests) if request.temperature > 0]
    if drawn:
        rows = (logits if len(drawn) == len(logits) else logits[drawn]).cpu().numpy()  # one transfer for all
        for i, row in zip(drawn, rows, strict=True):
            best[i] = _drawn(row, requests[i], places[i])
    return best


def logprobs_of(
    logits: Tensor, requests: Sequence[Request], tokens: Sequence[int]
) -> list[TokenLogprobs | None]:
    """Return the log-probabilities that each request asked for; None where `Request.logprobs` is None.

    `logits` are `[B, vocab]`, fp32, as the model gave them; `tokens[i]` is the token chosen for `requests[i]`.
    Of equally likely tokens, the smaller number comes first. No row depends on another row.
    """
    found: list[TokenLogprobs | None] = []
    for row, request, token in zip(logits, requests, tokens, strict=True):
        if request.logprobs is None:
            found.append(None)
            continue
        logs = row.cpu().log_softmax(dim=-1).numpy()
        top = _largest(logs, request.logprobs)
        pairs = zip(top.tolist(), logs[top].tolist(), strict=True)
        found.append(TokenLogprobs(token, float(logs[token]), tuple(pairs)))
    return found


def _without_stops(logits: Tensor, requests: Sequence[Request], places: Sequence[int]) -> Tensor:
    """Return the logits with minus infinity for stop tokens of requests that may not stop yet."""
    early = [
        (i, token)
        for i, (request, place) in enumerate(zip(requests, places, strict=True))
        if request.stop_ids and place < request.min_tokens and not request.ignore_eos
        for token in request.stop_ids
        if 0 <= token < logits.shape[-1]
    ]
    if not early:
        return logits
    logits = logits.clone()
    rows, tokens = (torch.tensor(column, device=logits.device) for column in zip(*early, strict=True))
    logits[rows, tokens] = logits[rows, tokens] - math.inf  # not set: a NaN stays one, and is refused
    return logits


def kept_tokens(logits: Row, request: Request) -> tuple[Tokens, Row]:
    """Return the tokens that a request may draw by its temperature, `top_k` and `top_p`, and their weights.

    `logits` is one row, fp32 `[vocab]`, with a finite largest number. A weight is a probability times some
    number that all tokens of the row share. `top_k` keeps the likeliest tokens, of equally likely ones those of
    smaller numbers. Of what is left, `top_p` keeps the fewest likeliest tokens that have that share of the weight.
    No more is sorted than `top_p` needs: tokens of weights that together are less than what may be cut are cut at
    once.

    The tokens come in ascending order, not the likeliest first. A rounding may exchange two tokens that are nearly
    equally likely. In order of likelihood, the two would exchange their parts of the summed weights, too, and so
    other tokens would be drawn. In ascending order, an edge between two parts moves no further than the rounding.
    """
    with np.errstate(over="ignore"):  # a temperature near 0: all but the likeliest tokens have weight 0
        weights = np.exp((logits - logits.max()) / max(request.temperature, 1e-30))
    tokens = np.sort(_largest(logits, request.top_k)) if request.top_k else np.arange(len(logits))
    weights = weights[tokens] if request.top_k else weights
    if request.top_p < 1:  # else the rounding of the sums would cut the unlikeliest tokens off
        total = float(weights.sum(dtype=np.float64))
        heavy = np.flatnonzero(weights >= (1 - request.top_p) * total / len(weights))
        order = heavy[np.argsort(-logits[tokens[heavy]], kind="stable")]
        sums = weights[order].cumsum(dtype=np.float64)
        order = np.sort(order[sums - weights[order] < request.top_p * total])
        tokens, weights = tokens[order], weights[order]
    return tokens, weights


def _drawn(logits: Row, request: Request, place: int) -> int:
    """Return a token drawn from one row: the one in whose part of the summed weights a random number falls."""
    tokens, weights = kept_tokens(logits, request)
    generator = torch.Generator().manual_seed((request.seed * 1_000_003 + place) % 2**63)
    sums = weights.cumsum(dtype=np.float64)
    mark = float(torch.rand((), dtype=torch.float64, generator=generator)) * sums[-1]
    found = int(np.searchsorted(sums, mark, side="right"))
    return int(
        tokens[min(found, np.flatnonzero(weights)[-1])]
    )  # a product may be rounded up to the whole sum


def _largest(values: Row, count: int) -> Tokens:
    """Return the indices of the `count` largest numbers, largest first; of equals, the smaller index first."""
    kept = np.arange(len(values))
    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count] if count else math.inf
        above = np.flatnonzero(values > least)
        kept = np.sort(np.concatenate((above, np.flatnonzero(values == least)[: count - len(above)])))
    return kept[np.argsort(-values[kept], kind="stable")]
