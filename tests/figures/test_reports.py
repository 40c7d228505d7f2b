"""Reports side by side: the table has the columns asked for, measured times are marked."""

import pytest

from helpers.figures import COLUMNS, comparison, seconds_text
from helpers.traffic import Objective
from tests.traffic.runs import outcome, report


def test_a_table_has_the_columns_asked_for_and_marks_measured_times():
    reports = {"one": report(outcome("a"), outcome("b", 0.0, (500.0, 1000.0))), "two": report(outcome("a"))}
    shown = repr(comparison(reports, Objective(ttft=1.0)))
    assert "TTFT p50" in shown
    assert "50%" in shown
    assert "250 s" in shown
    assert "in objective" not in repr(comparison(reports))
    real = repr(comparison(reports, columns=("tok/s", "TTFT p50", "preempted"), real=True))
    assert "measured 250 s" in real
    assert "TPOT" not in real
    assert len(comparison(reports, Objective()).headers) == len(COLUMNS) + 1
    assert [seconds_text(s) for s in (0.00123, 0.0456, 0.9, 3.14159, 1234.5)] == [
        "1.23 ms", "45.6 ms", "900 ms", "3.14 s", "1,234 s",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="unknown columns"):
        comparison(reports, columns=("speed",))
