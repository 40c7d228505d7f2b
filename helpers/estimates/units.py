"""Units of memory, and the bytes that one stored number takes."""

from __future__ import annotations

from helpers.estimates.quantisation.number_format import NumberFormat

GB = 10**9
GiB = 2**30
BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4}


def bytes_per_element(
    dtype: str | NumberFormat,
    group_size: int | None = None,
    scale_bits: int = 16,
    zero_point_bits: int | None = None,
) -> float:
    """Return the bytes of one stored number, with its share of its group's scale and zero point.

    A group of `group_size` numbers shares one scale of `scale_bits` and one zero point (default: as wide as
    the numbers). int4 comes in groups of 128 unless told otherwise; the other types have no groups unless
    told. One scale per matrix or channel is below a thousandth and not counted. Layout: arXiv:2306.00978
    (AWQ), arXiv:2210.17323 (GPTQ). A `NumberFormat` says all of that itself.
    """
    if isinstance(dtype, NumberFormat):
        return dtype.bytes_per_number
    bits = bits_of(dtype)
    if group_size is None and dtype == "int4":
        group_size = 128
    if group_size is None:
        return bits / 8
    require_positive(group_size=group_size)
    zero_point = bits if zero_point_bits is None else zero_point_bits
    return (bits + (scale_bits + zero_point) / group_size) / 8


def bits_of(dtype: str) -> int:
    """Return the bits of a type's numbers; raise ValueError for a type that is not in the table."""
    if dtype not in BITS:
        raise ValueError(f"unknown dtype {dtype!r}; known are {', '.join(BITS)}")
    return BITS[dtype]


def require_positive(**sizes: float) -> None:
    """Raise ValueError, naming the size, for a size that is not above 0."""
    for name, value in sizes.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def require_not_negative(**sizes: float) -> None:
    """Raise ValueError, naming the size, for a size below 0."""
    for name, value in sizes.items():
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, got {value}")
