"""Pictures of attention's cost show the numbers as counted."""

import pytest

from helpers.attention import AttentionSize, Tiling, Traffic, needs
from helpers.estimates import accelerator
from helpers.figures import draw_needs, draw_over_length, draw_traffic


def labels(fig):
    legend = fig.axes[0].get_legend() if fig.axes[0].get_legend() else fig.legends[0]
    return [text.get_text() for text in legend.get_texts()]


def test_lines_over_length():
    fig = draw_over_length({"a": {512: 1.0, 1024: 2.0}, "b": {512: 3.0}}, "t", "MiB", dashed=["b"])
    ax = fig.axes[0]
    assert [(line.get_label(), line.get_linestyle()) for line in ax.lines] == [("a", "-"), ("b", "--")]
    assert len({line.get_color() for line in ax.lines} | {line.get_marker() for line in ax.lines}) == 4
    assert list(ax.lines[0].get_ydata()) == [1.0, 2.0]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylabel()) == ("log", "log", "MiB")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["512", "1,024"]
    for wrong in ({}, {str(i): {1: 1.0} for i in range(7)}):
        with pytest.raises(ValueError, match="expected 1 to 6 lines"):
            draw_over_length(wrong, "", "")
    for wrong in ({}, {512: 0.0}):
        with pytest.raises(ValueError, match="takes positive values"):
            draw_over_length({"a": wrong}, "", "")


def test_traffic_by_what_it_is():
    ax = draw_traffic({"x": Traffic(10**9, 2 * 10**9, 0, 10**9), "y": Traffic(1, 1, 1, 1)}, "").axes[0]
    widths = [[bar.get_width() for bar in bars] for bars in ax.containers]
    assert [w[0] for w in widths] == [1.0, 2.0, 0.0, 1.0]
    assert [bars[0].get_x() for bars in ax.containers] == [0.0, 1.0, 3.0, 3.0]
    assert ax.texts[0].get_text() == " 4"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y"]


def test_what_does_not_fit_is_hatched():
    found = needs(AttentionSize(8192, 32, 128), Tiling(512, 2048), accelerator("Ascend 910B1"))
    ax = draw_needs(found, "").axes[0]
    words = [text.get_text() for text in ax.texts]
    assert words[3:] == [" 232 KiB of 192 KiB", " 512 KiB of 512 KiB", " 300 MiB of 192 MiB"]
    hatched = {
        round(bar.get_y() + bar.get_height() / 2) for bar in ax.patches if bar.get_hatch() and bar.get_width()
    }
    assert [found[row].buffer for row in sorted(hatched)] == ["UB", "L2"]
    ends = {}
    for bar in ax.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        ends[row] = max(ends.get(row, 0.0), bar.get_x() + bar.get_width())
    assert list(ends.values()) == pytest.approx([100 * need.used / need.capacity for need in found])


def test_the_lengths_are_the_only_numbers_under_the_lines():
    fig = draw_over_length({"a": {256: 1, 512: 2, 1024: 4, 2048: 8}}, "t", "y")
    fig.canvas.draw()
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["256", "512", "1,024", "2,048"]
    assert [text.get_text() for text in ax.get_xticklabels(minor=True)] == []
