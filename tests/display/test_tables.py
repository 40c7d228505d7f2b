"""Tables and the printing of measured numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.display import Table, measured
from tools.notebooks import sanitised


def test_plain_text_is_aligned_numbers_to_the_right():
    table = Table(("what", "GB"), [("weights", "16.06"), ("KV", "8.59")], caption="memory")
    assert repr(table).splitlines() == [
        "memory",
        "what        GB",
        "-------  -----",
        "weights  16.06",
        "KV        8.59",
    ]


def test_html_is_escaped_and_aligned():
    html = Table(("a<b", "n"), [("x & y", 1), ("<script>", 2)], caption="<c>")._repr_html_()
    assert "a&lt;b" in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "&lt;c&gt;" in html
    assert html.count("text-align: right") == 3, "header and two cells of the numbers"


def test_empty_headers_and_empty_tables_show():
    assert "<th" not in Table(("", ""), [("a", "b")])._repr_html_()
    assert repr(Table(("a", "b"), [])).splitlines()[0] == "a  b"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells, the table has 2 columns"):
        Table(("a", "b"), [(1, 2), (3,)])


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
