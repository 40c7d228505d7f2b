"""Codes of few bits in the 32-bit words of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.ops import low_bit


def codes_of_words(words: Tensor, bits: int, order: Sequence[int] | None = None) -> Tensor:
    """Return the codes in int32 words `[rows, n]` as int64 `[rows, n * 32 / bits]`.

    The first code stands in the lowest bits. With `order`, place `i` of a word holds its code number `order[i]`.
    Raises ValueError for bits that do not divide a word.
    """
    if words.dtype != torch.int32 or words.dim() != 2 or 32 % bits:
        raise ValueError(
            f"codes of {bits} bits lie in int32 words of two dimensions, got {words.dtype} {list(words.shape)}"
        )
    found = low_bit.digits(words.long(), 32, bits)
    if order is not None:
        found = found[..., torch.tensor(order).argsort()]
    return found.flatten(1)
