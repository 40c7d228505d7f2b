"""How numbers that come from a clock are printed.

The tests compare every output of the course. A time differs from run to run, and so does a rate made of
times. Such numbers, and no others, are printed through `measured`: one rule in `tests/sanitize.cfg` hides
exactly these.
"""

from __future__ import annotations

import math


def measured(value: float, unit: str = "s", digits: int = 3) -> str:
    """Return `"measured 12.3 ms"`: the word, the value with `digits` significant digits, the unit.

    Seconds are scaled to s, ms or µs. A whole part is printed in full, and a value below 1 with `digits - 1`
    decimals. `unit` is `s`, a rate such as `tok/s`, or `x` or `%` for a ratio of measured numbers. Raises
    ValueError for another unit, and for a value that no clock gives: negative, infinite or not a number.
    """
    if unit not in ("s", "x", "%") and not unit.endswith("/s"):
        raise ValueError(f"measured numbers are seconds, a rate per second, or a ratio of such, got {unit!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"a measured value is finite and not negative, got {value}")
    if unit == "s":
        value, unit = _scaled_seconds(value, digits)
    return f"measured {_significant(value, digits)} {unit}"


def _scaled_seconds(seconds: float, digits: int) -> tuple[float, str]:
    """Return the value in s, ms or µs, and the unit: the largest in which the value prints as 1 or more."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if _rounded(seconds * factor, digits) >= 1:
            return seconds * factor, unit
    return seconds * 1e6, "µs"


def _significant(value: float, digits: int) -> str:
    """Return the value in plain notation with `digits` significant digits; the whole part is never cut."""
    rounded = _rounded(value, digits)  # 9.999 becomes 10.0: one digit more before the decimal point
    whole_digits = math.floor(math.log10(rounded)) + 1 if rounded >= 1 else 1
    return f"{value:.{max(0, digits - whole_digits)}f}"


def _rounded(value: float, digits: int) -> float:
    """Return the value rounded to `digits` significant digits."""
    return float(f"{value:.{digits}g}")
