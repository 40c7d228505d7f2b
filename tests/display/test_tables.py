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


def shown(*rows, headers=("what", "time", "rate")):
    return Table(headers, rows)._repr_html_()


def test_a_column_of_measured_numbers_says_so_once_in_its_head():
    html = shown(("a", measured(0.0123), measured(5, "tok/s")), ("b", measured(1.5), "7 tok/s"))
    assert html.count("time, measured<") == 1
    assert '<td class="measured"' in html
    assert ">12.3 ms</td>" in html
    assert ">1.50 s</td>" in html
    assert ">rate<" in html, "a column of mixed numbers marks each of them"
    assert ">measured 5.00 tok/s</td>" in html
    assert "measured 12.3 ms" in repr(Table(("what",), [(measured(0.0123),)])), "plain text marks each number"


def test_gaps_in_a_measured_column_stay_and_a_head_that_says_it_does_not_say_it_twice():
    html = shown(("a", measured(1), "-"), ("b", "", "-"), headers=("what", "measured here", ""))
    assert html.count("measured here<") == 1
    assert "measured here, measured" not in html
    assert ">1.00 s</td>" in html
    assert html.count(">-</td>") == 2
    assert ">measured<" in shown(("a", "b", measured(1)), headers=("x", "y", ""))
    assert ">measured 1.00 s</td>" in shown(("a", "", measured(1)), headers=("", "", "")), "no head says it"


def test_measured_cells_compare_equal_in_html_and_others_do_not():
    one, other = (shown(("a", measured(s), "7")) for s in (0.0123, 4.5))
    assert one != other
    assert sanitised(one) == sanitised(other)
    assert sanitised(shown(("a", measured(1), "8"))) != sanitised(one)
    assert sanitised(shown(("a", "12.3 ms", "7"))) != sanitised(one), "a modelled number is compared"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells, the table has 2 columns"):
        Table(("a", "b"), [(1, 2), (3,)])


def test_the_text_around_measured_numbers_is_the_same_in_every_run():
    def shown(value, unit):
        table = Table(("part", "time", "share"), [("x", measured(value, unit), "1"), ("y", "", "2")])
        return sanitised(repr(table))

    assert shown(1.5e-6, "s") == shown(0.123, "s") == shown(98765, "s") == shown(12345, "GFLOP/s")
