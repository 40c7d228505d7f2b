"""Lanes: a bar for each span, a colour for each kind."""

import pytest

from helpers.figures import Span, draw_lanes

LANES = {"one": [Span(0, 2, "passes", "a"), Span(3, 4, "passes")], "two": [Span(1, 1.5, "events")]}


def test_bars_stand_where_the_spans_are():
    (ax,) = draw_lanes("title", LANES).axes
    bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in ax.patches]
    assert bars == [(0, 2, 0), (3, 1, 0), (1, 0.5, 1)]
    colors = [bar.get_facecolor() for bar in ax.patches]
    assert colors[0] == colors[1] != colors[2]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one", "two"]
    assert [t.get_text() for t in ax.figure.legends[0].get_texts()] == ["passes", "events"]


@pytest.mark.parametrize(
    ("lanes", "words"),
    [
        ({}, "expected spans"),
        ({"one": []}, "expected spans"),
        ({"one": [Span(2, 1, "x")]}, "expected spans"),
        ({"one": [Span(0, 1, str(i)) for i in range(7)]}, "6 kinds"),
    ],
)
def test_what_cannot_be_drawn(lanes, words):
    with pytest.raises(ValueError, match=words):
        draw_lanes("title", lanes)
