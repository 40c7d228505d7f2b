"""Codes of 2 to 8 bits, packed in bytes without a gap."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.ops import low_bit


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Return `codes [rows, columns]`, each below `2**bits`, as uint8 `[rows, ceil(columns * bits / 8)]`.

    The first code stands in the lowest bits: of two codes of 4 bits, the first is the low half of the byte.
    """
    unit = bits if 8 % bits == 0 else 1  # codes that do not divide a byte are cut into single bits
    digits = _cut(codes.to(torch.uint8), bits, unit)
    per_byte = 8 // unit
    padded = torch.nn.functional.pad(digits, (0, -digits.shape[1] % per_byte))
    return _joined(padded.reshape(len(codes), -1, per_byte), unit)


def unpack_codes(packed: Tensor, bits: int, columns: int) -> Tensor:
    """Return the codes `[rows, columns]`, uint8, that `pack_codes` has packed."""
    unit = bits if 8 % bits == 0 else 1
    digits = _cut(packed, 8, unit)[:, : columns * bits // unit]
    return _joined(digits.reshape(len(packed), columns, -1), unit)


def _cut(numbers: Tensor, bits: int, unit: int) -> Tensor:
    """Return each number's digits of `unit` bits, lowest first: `[rows, columns]` -> `[rows, columns * bits / unit]`."""
    if bits == unit:
        return numbers
    return low_bit.digits(numbers, bits, unit).flatten(1)


def _joined(digits: Tensor, unit: int) -> Tensor:
    """Return the numbers whose digits of `unit` bits are given, lowest first: `[..., n]` -> `[...]`."""
    whole = digits[..., 0].clone()
    for place in range(1, digits.shape[-1]):
        whole |= digits[..., place] << (unit * place)
    return whole
