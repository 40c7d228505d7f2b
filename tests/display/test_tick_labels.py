"""Tick labels that overlap are found, in every figure that a test or an author draws."""

import os

import pytest

from helpers.display import STRICT_FIGURES, SweepPanel, Table, overlapping_labels, plots
from tools.notebooks import use_this_interpreter


def figure(ticks, minor=()):
    """A figure whose x axis, of 1,000 units, has these ticks."""
    fig, ax = plots.new_figure("Crowded", "x", "y")
    ax.set_xlim(0, 1000)
    ax.set_xticks(ticks, [f"{tick}" for tick in ticks])
    ax.set_xticks(minor, [f"{tick}" for tick in minor], minor=True)
    return fig


def found(fig):
    fig.canvas.draw()
    return overlapping_labels(fig)


def test_labels_with_room_between_them_do_not_overlap():
    assert found(figure([0, 500, 1000])) == []


def test_two_labels_at_nearly_one_place_overlap_also_where_one_tick_is_small():
    assert found(figure([100, 500, 512])) == [("500", "512")]
    assert found(figure([100, 512], minor=[500])) == [("512", "500")]


def test_labels_of_the_other_axis_and_of_other_axes_count():
    fig, ax = plots.new_figure("Two", "", "y", width=7)
    ax.set_yticks([0.5, 0.51], ["a", "b"])
    assert found(fig) == [("a", "b")]
    fig = plots.figure_of_panels("Beside", height=3)
    for left in (0.1, 0.5):
        ax = fig.add_axes((left, 0.2, 0.4, 0.6))
        ax.set_yticks([])
        ax.set_xticks([0, 1], ["from here", "to there"])
    assert found(fig) == [("to there", "from here")]


def test_labels_that_nobody_sees_do_not_count():
    fig = figure([500, 512, 2000, 2001])
    fig.axes[0].set_xlim(600, 1000)
    assert found(fig) == [], "outside of what the axis shows"
    fig = figure([500, 512])
    fig.axes[0].set_axis_off()
    assert found(fig) == []
    fig = figure([500, 512])
    fig.axes[0].set_xticks([500, 512], ["500", " "])
    assert found(fig) == []


def test_a_shown_figure_and_a_panel_fail_under_test_and_never_for_a_learner(monkeypatch):
    crowded = "tick labels overlap in the figure 'Crowded': '500' and '512'"
    with pytest.raises(ValueError, match=crowded):
        plots.show(figure([500, 512]), alt="crowded")
    with pytest.raises(ValueError, match=crowded):
        SweepPanel(lambda: (figure([500, 512]), Table(("a",), [(1,)])), {})
    monkeypatch.delenv(STRICT_FIGURES)
    assert plots.png(figure([500, 512]))


def test_whoever_makes_a_notebook_is_told(monkeypatch):
    for name in ("PATH", "COURSE_DATA", "TORCH_DEVICE_BACKEND_AUTOLOAD"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv(STRICT_FIGURES)
    use_this_interpreter()
    assert os.environ[STRICT_FIGURES]
