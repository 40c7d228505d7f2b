"""Measured numbers: how they are printed, and that the sanitiser's rule hides exactly them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.display import measured
from tools.notebooks import sanitised


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.2345, "s", "measured 1.23 s"),
        (0.0123456, "s", "measured 12.3 ms"),
        (12.3e-6, "s", "measured 12.3 µs"),
        (4.56e-7, "s", "measured 0.46 µs"),
        (0.0, "s", "measured 0.00 µs"),
        (123.456, "tok/s", "measured 123 tok/s"),
        (12345.6, "GB/s", "measured 12346 GB/s"),
        (1.5, "x", "measured 1.50 x"),
        (87.65, "%", "measured 87.7 %"),
    ],
)
def test_measured_numbers(value, unit, text):
    assert measured(value, unit) == text


@pytest.mark.parametrize("unit", ["MB", "tokens", "ms", ""])
def test_what_is_no_clocks_unit_is_refused(unit):
    with pytest.raises(ValueError, match="seconds, a rate"):
        measured(1.0, unit)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_no_clock_gives_that(value):
    with pytest.raises(ValueError, match="a measured value is finite"):
        measured(value)


@given(st.floats(0, 1e9), st.sampled_from(["s", "tok/s", "GB/s", "x", "%"]))
def test_the_sanitiser_hides_every_measured_number_and_no_other(value, unit):
    text = f"took {measured(value, unit)}, modelled 3.2 ms | 14 tokens"
    assert sanitised(text) == "took MEASURED, modelled 3.2 ms | 14 tokens"
    assert sanitised(f"<td>{measured(value, unit)}</td>") == "<td>MEASURED</td>"


@pytest.mark.parametrize(
    "text",
    [
        "measured MB  12.3",
        "measured 12 requests",
        "we measured 3 of 4",
        "measured 3.3 MB",
        "3.2 ms",
        "measured",
    ],
)
def test_the_sanitiser_leaves_everything_else_alone(text):
    assert sanitised(text) == text
