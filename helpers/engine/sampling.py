"""Choosing the next token from logits: the likeliest, or one drawn by temperature, top-k and top-p.

And the log-probabilities that a request asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.engine.request import Request, TokenLogprobs
from helpers.ops.torch_ops import likeliest


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
    for i, (request, place) in enumerate(zip(requests, places, strict=True)):
        if request.temperature > 0:
            best[i] = _drawn(logits[i].cpu(), request, place)
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
        logs = row.cpu().log_softmax(dim=-1)
        order = logs.sort(descending=True, stable=True)
        top = zip(order.indices[: request.logprobs].tolist(), order.values.tolist(), strict=False)
        found.append(TokenLogprobs(token, float(logs[token]), tuple(top)))
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


def _drawn(logits: Tensor, request: Request, place: int) -> int:
    """Return a token drawn from one row."""
    temperature = max(request.temperature, 1e-30)
    sharpened = (logits - logits.max()) / temperature  # 0 at most: no temperature overflows
    order = sharpened.sort(descending=True, stable=True)
    probabilities = order.values.softmax(dim=-1)
    if request.top_k:
        probabilities[request.top_k :] = 0
    if request.top_p < 1:  # else the rounding of the sums would cut the unlikeliest tokens off
        before = probabilities.cumsum(dim=-1) - probabilities  # the share of the likelier tokens
        probabilities[before >= request.top_p * probabilities.sum()] = 0
    generator = torch.Generator().manual_seed((request.seed * 1_000_003 + place) % 2**63)
    return int(order.indices[torch.multinomial(probabilities, 1, generator=generator)])
