"""Figures: what a reader sees of them, and that the same figure is the same file."""

import re
import struct

import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex

from helpers.display import plots


def figure(title="t"):
    fig, ax = plots.new_figure(title, "x", "y")
    ax.plot([0, 1], [0, 1], label="line")
    return fig, ax


def chunks(data):
    """The kinds of chunk in a PNG file, in order."""
    kinds, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kinds.append(data[at + 4 : at + 8])
        at += length + 12
    return kinds


def test_the_same_figure_is_the_same_file_without_date_or_author():
    first, second = (plots.png(figure()[0]) for _ in range(2))
    assert first == second
    assert first != plots.png(figure("another")[0])
    assert set(chunks(first)) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_text_is_large_enough_to_read():
    _, ax = figure()
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    assert min(text.get_fontsize() for text in texts) >= 11


def test_a_legend_names_what_was_drawn():
    _, ax = figure()
    plots.legend(ax, loc="upper left")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["line"]


def test_areas_stand_on_each_other_in_the_named_colours():
    _, ax = plots.new_figure("t", "x", "y")
    parts = {"weights": [2, 2, 2], "KV cache": [0, 1, 5]}
    plots.stacked_areas(ax, [0, 1, 2], parts, colors=("weights", "kv_cache"))
    lower, upper = ax.collections
    assert [area.get_label() for area in (lower, upper)] == list(parts)
    assert to_hex(lower.get_facecolor()[0]).upper() == plots.COLORS["weights"]
    assert to_hex(upper.get_facecolor()[0]).upper() == plots.COLORS["kv_cache"]
    assert upper.get_paths()[0].vertices[:, 1].max() == 2 + 5
    assert ax.get_xlim() == (0, 2)


def test_a_log_axis_of_widths_is_as_plain_as_one_of_heights():
    fig, ax = plots.new_figure("t", "x", "y")
    ax.plot([1, 100_000], [1, 2])
    plots.log_axis(ax, "x")
    fig.canvas.draw()
    assert ax.get_xscale() == "log"
    assert ax.get_yscale() == "linear"
    assert "10,000" in [label.get_text() for label in ax.get_xticklabels()]


@pytest.mark.parametrize("top", [10_000, 160_000, 999_999, 1e9])
@pytest.mark.parametrize(("width", "height"), [(7, 3.9), (6, 3.9), (5, 3), (9, 5)])
def test_nothing_is_cut_off_however_long_the_numbers(width, height, top):
    fig, ax = plots.new_figure(
        "A title of usual length, gy", "prompt tokens", "tokens computed", width=width, height=height
    )
    ax.plot([0, 100_000], [0, top])
    plots.png(fig)
    box = fig.get_tightbbox()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_a_figure_that_fits_keeps_its_margins_and_one_that_was_widened_stays():
    fig, ax = figure()
    margin = fig.subplotpars.left
    plots.png(fig)
    assert fig.subplotpars.left == margin
    ax.set_ylim(0, 160_000)
    first = plots.png(fig)
    assert fig.subplotpars.left > margin
    assert plots.png(fig) == first


def test_a_shown_figure_carries_its_text_alternative_and_size(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", shown.append)
    plots.show(figure()[0], alt="a rising line")
    _, metadata = shown[0]._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "a rising line"
    assert metadata["image/png"]["width"] == 7 * plots.DPI
    assert repr(shown[0]) == "<IPython.core.display.Image object>", "what nbval compares: no address, no size"


def test_figures_leave_no_pyplot_state_and_have_their_size():
    fig, _ = plots.new_figure("t", "x", "y", width=5, height=3)
    assert pyplot.get_fignums() == []
    width, height = struct.unpack(">II", plots.png(fig, dpi=100)[16:24])
    assert (width, height) == (500, 300)


def test_nothing_is_cut_off_at_the_edges():
    fig, ax = plots.new_figure("A title of usual length", "requests at once", "tokens per second")
    ax.plot([0, 100_000], [0, 1_000_000])
    fig.canvas.draw()
    box = fig.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= fig.get_figwidth()
    assert box.y1 <= fig.get_figheight()


def test_log_axes_have_plain_numbers():
    fig, ax = plots.new_figure("t", "x", "y")
    ax.plot([1, 10], [1, 100_000])
    plots.log_axis(ax, "y")
    fig.canvas.draw()
    assert "10,000" in [label.get_text() for label in ax.get_yticklabels()]


def test_show_has_a_text_alternative(capsys):
    fig, _ = plots.new_figure("t", "x", "y")
    with pytest.raises(ValueError, match="needs a text"):
        plots.show(fig, alt=" ")
    plots.show(fig, alt="nothing yet")
    assert "Image object" in capsys.readouterr().out


def test_colours_are_distinct_and_readable():
    assert len(set(plots.COLORS.values())) == len(plots.COLORS)
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in plots.COLORS.values())
