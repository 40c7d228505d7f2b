"""Texts as packed bytes, 32 bits a token: what trees and indexes compare."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence

TOKEN = struct.Struct("I")


def root(salt: Hashable) -> Hashable:
    """What stands for the text before the first token, unlike any number. Raises ValueError for a salt that has no hash."""
    try:
        hash(salt)
    except TypeError:
        raise ValueError(f"a salt must be hashable, such as a string; got {type(salt).__name__}") from None
    return (salt,)


def packed(tokens: Sequence[int]) -> bytes:
    """The tokens as bytes, 32 bits each. Raises ValueError for what is no whole number from 0 to 2**32 - 1."""
    try:
        return struct.pack(f"{len(tokens)}I", *tokens)
    except struct.error as error:
        raise ValueError(f"token ids must be whole numbers from 0 to 2**32 - 1: {error}") from None


def first_tokens(text: bytes, n: int) -> bytes:
    """The first `n` tokens of packed ones."""
    return text[: n * TOKEN.size]
