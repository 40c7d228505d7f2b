"""Pictures of quantisation show the numbers as computed."""

import torch

from helpers.figures import draw_channels, draw_grids, draw_over_rows, draw_quality


def test_a_grid_shows_what_lies_among_the_weights():
    ax = draw_grids([0.0, 1.0], {"coarse": [-5.0, 0.0, 0.5, 9.0], "fine": [0.0, 1.0]}, "t").axes[0]
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.0, 0.5], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["coarse", "fine"]


def test_channels_come_loudest_first():
    ax = draw_channels({"a": torch.tensor([1.0, 9.0, 3.0])}, "t").axes[0]
    assert list(ax.lines[0].get_ydata()) == [9.0, 3.0, 1.0]


def test_quality_over_bytes():
    ax = draw_quality(
        {"int": {"int4": (2e6, 0.1), "int8": (4e6, 0.0)}, "half": {"50 %": (1e6, 3.0)}}, "t"
    ).axes[0]
    assert [list(line.get_xdata()) for line in ax.lines] == [[2.0, 4.0], [1.0]]
    assert list(ax.lines[0].get_ydata()) == [0.1, 3e-4]
    assert [text.get_text() for text in ax.texts] == ["int4", "int8 (KL below 0.0003)", "50 %"]


def test_a_long_name_stays_inside_the_figure():
    for nbytes, far in ((66.4e6, 66.4e6), (10e6, 200e6), (150e6, 200e6)):
        fig = draw_quality({"a": {"4 bits": (nbytes, 0.0)}, "b": {"16": (far, 1.0)}}, "t")
        fig.canvas.draw()
        place = fig.axes[0].texts[0].get_window_extent()
        assert fig.bbox.x0 < place.x0
        assert place.x1 < fig.bbox.x1


def test_the_axis_of_one_family_ends_where_it_is_told():
    ax = draw_quality({"here": {"int4": (2e6, 0.1)}}, "t", most=9e6).axes[0]
    assert ax.get_xlim() == (0, 9)
    assert ax.get_legend() is None


def test_names_of_neighbours_do_not_touch():
    points = {"low": (2e6, 0.3), "high": (2e6, 0.5), "far": (9e6, 0.4)}
    ax = draw_quality({"int": points}, "t").axes[0]
    assert [text.xyann[1] > 0 for text in ax.texts] == [False, True, True]


def test_times_over_rows():
    ax = draw_over_rows({"a": {1: 1.0, 16: 2.0}, "b": {4: 3.0}}, "t", "seconds").axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4", "16"]
    assert not len(ax.get_xticks(minor=True))
    assert list(ax.lines[1].get_ydata()) == [3.0]
