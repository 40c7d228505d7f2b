"""The Gantt chart shows what the log says."""

import math
from itertools import pairwise

import matplotlib.colors
import pytest
from matplotlib.text import Text

from helpers.display import plots
from helpers.figures import Bar, chart, draw_gantt
from tests.traffic.runs import Log, run, state, step


def test_bars():
    made = chart(run())
    assert list(made.bars) == ["a", "b"], "in order of arrival"
    assert made.bars["a"] == [
        Bar("waiting", 0, 0.5),
        Bar("prefill", 0.5, 1),
        Bar("prefill", 1, 2),
        Bar("decode", 2, 4),
        Bar("waiting", 4, 6),
        Bar("padding", 6, 7),
    ]
    assert made.bars["b"] == [
        Bar("waiting", 0.25, 1),
        Bar("prefill", 1, 2),
        Bar("decode", 2, 3),
        Bar("waiting", 3, 4),
        Bar("prefill", 4, 6),
        Bar("decode", 6, 7),
    ]
    assert made.preempted == [("b", 3)]
    assert made.tokens == {"a": [2, 3, 4], "b": [2, 3, 6, 7]}


def test_a_request_still_on_its_way_is_drawn_too():
    log = run()
    del log.finished["b"]
    assert chart(log).bars["b"][0] == Bar("prefill", 1, 2)


def test_decode_does_not_reach_over_a_pass_without_the_request():
    log = Log(
        [step(0, 1, ("a", 0, 4, False)), step(1, 2, ("a", 4, 1, True)), step(2, 3, ("b", 0, 4, False)),
         step(3, 4, ("a", 5, 1, True))],
        [state("a", 0, [1, 2, 4]), state("b", 0, [3])],
    )  # fmt: skip
    kinds = [(bar.kind, bar.begin) for bar in chart(log).bars["a"]]
    assert kinds == [("prefill", 0), ("decode", 1), ("waiting", 2), ("decode", 3)]


def spans(ax, color):
    """Begin, end and row of each bar of that colour."""
    wanted, found = matplotlib.colors.to_rgba(color), []
    for collection in ax.collections:
        faces = collection.get_facecolor()
        if len(faces) and tuple(faces[0]) == wanted:
            for path in collection.get_paths():
                box = path.get_extents()
                found.append((round(box.x0, 6), round(box.x1, 6), round((box.y0 + box.y1) / 2, 6)))
    return sorted(found)


def test_what_is_drawn():
    fig = draw_gantt("title", {"one": run(), "two": run()}, unit="ms")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["one", "two"]
    for ax in fig.axes:
        assert spans(ax, plots.COLORS["prefill"]) == [
            (500, 1000, 0),
            (1000, 2000, 0),
            (1000, 2000, 1),
            (4000, 6000, 1),
        ]
        assert spans(ax, plots.COLORS["decode"]) == [(2000, 3000, 1), (2000, 4000, 0), (6000, 7000, 1)]
        assert spans(ax, "white") == [(6000, 7000, 0)]
        assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
        marks = [line for line in ax.lines if line.get_marker() == "X" and len(line.get_xdata())]
        assert [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks] == [(3000, 1)]
        assert ax.yaxis_inverted(), "the first request stands on top"
        assert ax.get_xlim()[1] >= 7000
    assert fig.axes[0].get_xlim() == fig.axes[1].get_xlim()


def token_lines(log):
    """Where lines after tokens stand, by row."""
    found = {}
    lines = draw_gantt("title", {"one": log}).axes[0].lines
    for line in (line for line in lines if line.get_color() == "white"):
        points = list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for (x, low), (same, high), (_, gap) in zip(points[::3], points[1::3], points[2::3], strict=True):
            assert x == same
            assert math.isnan(gap)
            found.setdefault(round(float(low + high) / 2), []).append(float(x))
    return found


def test_a_line_after_each_token_where_they_can_be_told_apart():
    assert token_lines(run()) == {0: [2, 3, 4], 1: [2, 3, 6, 7]}
    many = [step(i, i + 1, ("a", i, 1, True)) for i in range(200)]
    assert token_lines(Log(many, [state("a", 0, range(1, 201))])) == {}


def test_the_legend_names_what_is_there_and_covers_nothing():
    fig = draw_gantt("title", {"one": run()})
    fig.canvas.draw()
    legend = fig.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "waiting", "prompt", "answer", "wasted", "preempted",
    ]  # fmt: skip
    box = legend.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 < fig.axes[0].xaxis.label.get_window_extent().y0 + 1
    plain = Log([step(0, 1, ("a", 0, 4, False))], [state("a", 0, [1])])
    texts = draw_gantt("title", {"one": plain}).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["prompt"]


def written(fig, words):
    """The one text of a figure that says this."""
    (found,) = fig.findobj(lambda artist: isinstance(artist, Text) and artist.get_text() == words)
    return found


@pytest.mark.parametrize("rows", [1, 2, 16, 40])
def test_nothing_leaves_the_figure(rows):
    log = Log([step(0, 1, *((i, 0, 4, False) for i in range(rows)))], [state(i, 0, [1]) for i in range(rows)])
    fig = draw_gantt("title", {"one": log, "two": log})
    fig.canvas.draw()
    height = fig.bbox.height
    titles = [written(fig, words) for words in ("title", "one", "two")]
    boxes = [text.get_window_extent() for text in titles]
    assert all(box.y1 <= height for box in boxes)
    for upper, lower in pairwise(boxes):
        assert lower.y1 < upper.y0
    assert fig.axes[0].get_window_extent().y0 > boxes[2].y1


def test_an_empty_log_is_refused():
    with pytest.raises(ValueError, match="run the batcher first"):
        chart(Log([], []))
