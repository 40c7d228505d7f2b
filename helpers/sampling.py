"""Choosing the next token from logits: the likeliest, or one drawn by temperature, top-k and top-p."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.request import Request


def choose(logits: Tensor, requests: Sequence[Request], places: Sequence[int]) -> list[int]:
    """One token for each row of fp32 `logits [B, vocab]`; `places[i]` is the new token's number in its answer.

    What is drawn depends on the request's seed and on the token's place only, never on the other rows.
    """
    best: list[int] = logits.argmax(dim=-1).tolist()
    for i, (request, place) in enumerate(zip(requests, places, strict=True)):
        if request.temperature > 0:
            best[i] = _drawn(logits[i].cpu(), request, place)
    return best


def _drawn(logits: Tensor, request: Request, place: int) -> int:
    """A token drawn from one row."""
    order = (logits / request.temperature).sort(descending=True, stable=True)
    probabilities = order.values.softmax(dim=-1)
    if request.top_k:
        probabilities[request.top_k :] = 0
    before = probabilities.cumsum(dim=-1) - probabilities  # the share of the likelier ones
    probabilities[before >= request.top_p * probabilities.sum()] = 0
    generator = torch.Generator().manual_seed(request.seed * 1_000_003 + place)
    return int(order.indices[torch.multinomial(probabilities, 1, generator=generator)])
