"""Figures of schedules show the percentiles, curves and predictions that they are given."""

import pytest

from helpers.display import plots
from helpers.figures import draw_curves, draw_percentiles, draw_predictions
from tests.traffic.runs import outcome, report

TWO, EIGHT = {"one": ([1, 2], [3, 4]), "two": ([1, 2], [5, 6])}, {str(i): ([1], [1]) for i in range(8)}


def is_drawn(fig):
    return plots.png(fig)[:4] == b"\x89PNG"


def test_percentiles_stand_beside_each_other_and_far_apart_on_a_logarithmic_axis():
    near, far = outcome("a"), outcome("b", 0.0, (500.0, 1000.0))
    reports = {"one": report(near, far), "two": report(near)}
    fig = draw_percentiles("Policies", reports)
    assert [ax.get_xlabel() for ax in fig.axes] == ["time to first token, s", "time per output token, s"]
    points = {tuple(line.get_xdata()) for line in fig.axes[0].lines}
    for percent in (50, 90, 99):
        assert tuple(r.percentile("ttft", percent) for r in reports.values()) in points
    assert fig.axes[0].get_xscale() == "log"
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["one", "two"]
    assert is_drawn(fig)
    assert draw_percentiles("Policies", {"two": report(near)}).axes[0].get_xscale() == "linear"


def test_short_times_are_in_milliseconds():
    fig = draw_percentiles("Policies", {"one": report(outcome("a", 0.0, (0.25, 0.5)))}, ["ttft"])
    assert [ax.get_xlabel() for ax in fig.axes] == ["time to first token, ms"]
    assert {line.get_xdata()[0] for line in fig.axes[0].lines} == {250.0}


def test_a_curve_for_each_name():
    curves = draw_curves("Load", "load", "goodput", TWO)
    ax = curves.axes[0]
    assert [list(line.get_ydata()) for line in ax.lines] == [[3, 4], [5, 6]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert (ax.get_yscale(), ax.get_ylim()[0]) == ("linear", 0)
    assert is_drawn(curves)
    assert draw_curves("Load", "load", "goodput", TWO, log=True).axes[0].get_yscale() == "log"


def test_predictions_stand_over_measurements():
    pairs = draw_predictions("Held to account", "tok/s", {"x": (10.0, 11.0)})
    assert ([11.0], [10.0]) in [(list(li.get_xdata()), list(li.get_ydata())) for li in pairs.axes[0].lines]
    assert is_drawn(pairs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: draw_percentiles("x", {}), "expected one report and one metric"),
        (
            lambda: draw_percentiles("x", {"a": report(outcome("a"))}, []),
            "expected one report and one metric",
        ),
        (lambda: draw_predictions("x", "s", {}), "values above 0"),
        (lambda: draw_predictions("x", "s", {"a": (0.0, 1.0)}), "values above 0"),
        (lambda: draw_curves("x", "x", "y", EIGHT), "colours for 7 curves, got 8"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
