"""How numbers that come from a clock are printed.

Outputs of the course are compared on every change. A time, and a rate made of a time, differs from run to run; it is
printed through `measured` and nothing else is, so that the one rule in `tests/sanitize.cfg` hides exactly these.
"""

from __future__ import annotations

import math


def measured(value: float, unit: str = "s", digits: int = 3) -> str:
    """`"measured 12.3 ms"`: the word, the value with `digits` significant digits, the unit; seconds are scaled to s, ms or µs.

    A whole part is printed in full, and a value below 1 with `digits - 1` decimals.
    `unit` is `s`, a rate such as `tok/s`, or `x` or `%` for a ratio of such numbers. Raises ValueError for another unit
    and for a value that no clock gives: negative, infinite or not a number.
    """
    if unit not in ("s", "x", "%") and not unit.endswith("/s"):
        raise ValueError(f"measured numbers are seconds, a rate per second, or a ratio of such, got {unit!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"a measured value is finite and not negative, got {value}")
    if unit == "s":
        value, unit = _scaled_seconds(value, digits)
    return f"measured {_significant(value, digits)} {unit}"


def _scaled_seconds(seconds: float, digits: int) -> tuple[float, str]:
    """The value and the largest of s, ms and µs in which it is, as printed, at least 1."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if _rounded(seconds * factor, digits) >= 1:
            return seconds * factor, unit
    return seconds * 1e6, "µs"


def _significant(value: float, digits: int) -> str:
    """The value in plain notation with that many significant digits, at least its whole part."""
    rounded = _rounded(value, digits)  # 9.999 becomes 10.0, which has one digit more before its point
    whole_digits = math.floor(math.log10(rounded)) + 1 if rounded >= 1 else 1
    return f"{value:.{max(0, digits - whole_digits)}f}"


def _rounded(value: float, digits: int) -> float:
    """The value to that many significant digits."""
    return float(f"{value:.{digits}g}")
