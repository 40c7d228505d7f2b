"""Texts as packed bytes, 32 bits a token: what trees and indexes compare."""

from __future__ import annotations

import operator
import struct
from collections.abc import Hashable, Iterable, Sequence

TOKEN = struct.Struct("I")


def root(salt: Hashable) -> Hashable:
    """Return the key that precedes a text's first token: unlike any number, and equal for equal salts.

    Raises ValueError for a salt that has no hash.
    """
    try:
        hash(salt)
    except TypeError:
        raise ValueError(f"a salt must be hashable, such as a string; got {type(salt).__name__}") from None
    return (salt,)


def packed(tokens: Sequence[int]) -> bytes:
    """Return the tokens as bytes, 32 bits each.

    Raises ValueError for anything but whole numbers, of any integer type, from 0 to 2**32 - 1.
    """
    try:
        return struct.pack(f"{len(tokens)}I", *tokens)
    except (struct.error, TypeError):
        raise _refusal(tokens) from None


def _refusal(tokens: object) -> ValueError:
    """Return the error that says what is wrong with these tokens."""
    if not isinstance(tokens, Iterable):
        return ValueError(f"expected a list of token ids, got {tokens!r:.80}")
    try:
        for token in tokens:
            whole_number(token, "a token id")
    except ValueError as error:
        return error
    return ValueError("token ids must be whole numbers from 0 to 2**32 - 1")


def whole_number(value: object, name: str) -> int:
    """Return a number of any integer type as an int.

    Raises ValueError, with the name, for a bool and for what is no integer.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]  # an object without an index raises TypeError
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r:.80}") from None


def first_tokens(text: bytes, n: int) -> bytes:
    """Return the first `n` tokens of packed ones."""
    return text[: n * TOKEN.size]
