"""A figure has a standing and a source, or is refused."""

import pytest

from helpers.estimates import Figure


@pytest.mark.parametrize(
    ("value", "status", "source", "message"),
    [
        (1.0, "", "a page", "unknown status ''; known are official, derived"),
        (1.0, "believed", "a page", "unknown status 'believed'"),
        (1.0, "official", "", "a figure of 1.0 B has no source"),
        (None, "reported", "a page", "unknown where it has no value; got None"),
        (1.0, "unknown", "a page", "unknown where it has no value; got 1.0"),
    ],
)
def test_a_figure_without_standing_or_source_is_refused(value, status, source, message):
    with pytest.raises(ValueError, match=message):
        Figure(value, "B", status, source)


def test_an_unknown_figure_says_where_was_looked():
    assert Figure(None, "B/s", "unknown", "no file has it").value is None
