"""Tables as plain text and as HTML, and what they refuse."""

import pytest

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


def test_the_text_around_measured_numbers_is_the_same_in_every_run():
    def shown(value, unit):
        table = Table(("part", "time", "share"), [("x", measured(value, unit), "1"), ("y", "", "2")])
        return sanitised(repr(table))

    assert shown(1.5e-6, "s") == shown(0.123, "s") == shown(98765, "s") == shown(12345, "GFLOP/s")
