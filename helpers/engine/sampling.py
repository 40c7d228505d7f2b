"""Choosing the next token from logits: the likeliest, or one drawn by temperature, top-k and top-p."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.engine.request import Request
from helpers.ops.torch_ops import likeliest


def choose(logits: Tensor, requests: Sequence[Request], places: Sequence[int]) -> list[int]:
    """Return one token for each row of fp32 `logits [B, vocab]`.

    `places[i]` is the new token's number in the answer of `requests[i]`. What is drawn depends only on the
    request's seed and the token's number, never on the other rows. Raises ValueError when a row holds a NaN:
    such a row has no likeliest token.
    """
    best, values = likeliest(logits)
    for request, value in zip(requests, values, strict=True):
        if math.isnan(value):
            raise ValueError(f"the logits of request {request.request_id!r} are not a number (NaN)")
    for i, (request, place) in enumerate(zip(requests, places, strict=True)):
        if request.temperature > 0:
            best[i] = _drawn(logits[i].cpu(), request, place)
    return best


def _drawn(logits: Tensor, request: Request, place: int) -> int:
    """Return a token drawn from one row."""
    temperature = max(request.temperature, 1e-30)
    sharpened = (logits - logits.max()) / temperature  # 0 at most: no temperature overflows
    order = sharpened.sort(descending=True, stable=True)
    probabilities = order.values.softmax(dim=-1)
    if request.top_k:
        probabilities[request.top_k :] = 0
    before = probabilities.cumsum(dim=-1) - probabilities  # the share of the likelier tokens
    probabilities[before >= request.top_p * probabilities.sum()] = 0
    generator = torch.Generator().manual_seed((request.seed * 1_000_003 + place) % 2**63)
    return int(order.indices[torch.multinomial(probabilities, 1, generator=generator)])
