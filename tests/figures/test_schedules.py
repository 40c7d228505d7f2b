"""Figures of schedules show the percentiles, curves and predictions that they are given."""

import pytest

from helpers.display import plots
from helpers.figures import draw_curves, draw_percentiles, draw_predictions
from tests.traffic.runs import outcome, report


def test_figures():
    reports = {"one": report(outcome("a"), outcome("b", 0.0, (500.0, 1000.0))), "two": report(outcome("a"))}
    fig = draw_percentiles("Policies", reports)
    assert [ax.get_xlabel() for ax in fig.axes] == ["time to first token, s", "time per output token, s"]
    points = {tuple(line.get_xdata()) for line in fig.axes[0].lines}
    assert tuple(r.percentile("ttft", 90) for r in reports.values()) in points
    assert fig.axes[0].get_xscale() == "log"
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["one", "two"]
    curves = draw_curves("Load", "load", "goodput", {"a": ([1, 2], [3, 4]), "b": ([1, 2], [5, 6])})
    assert [list(line.get_ydata()) for line in curves.axes[0].lines] == [[3, 4], [5, 6]]
    pairs = draw_predictions("Held to account", "tok/s", {"x": (10.0, 11.0)})
    assert ([11.0], [10.0]) in [(list(li.get_xdata()), list(li.get_ydata())) for li in pairs.axes[0].lines]
    for made in (fig, curves, pairs):
        assert plots.png(made)[:4] == b"\x89PNG"
    for wrong in (
        lambda: draw_percentiles("x", {}), lambda: draw_predictions("x", "s", {"a": (0.0, 1.0)}),
        lambda: draw_curves("x", "x", "y", {str(i): ([1], [1]) for i in range(8)}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected|colours"):
            wrong()
