"""Pictures of paged memory show which request holds a page, how full the page is, and what is wasted."""

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from helpers.display import plots
from helpers.figures import PageMap, draw_history, draw_pages, draw_shares, request_colors
from helpers.simulation import Occupancy

MAP = PageMap(4, (("A", "B"), ("A",), ("B",), (), ()), (4, 4, 1, 0, 0), frozenset({3}))


def boxes(fig):
    """The pages' boxes: left, top, width, face colour, hatch."""
    return [
        (round(p.get_x(), 2), round(p.get_y(), 2), round(p.get_width(), 2), to_hex(p.get_facecolor()), p.get_hatch())
        for p in fig.axes[0].patches
    ]  # fmt: skip


def color(name):
    return plots.COLORS[name].lower()


def test_every_page_is_filled_as_far_as_it_holds_tokens():
    fig = draw_pages(MAP, "pool", columns=4)
    shown = boxes(fig)
    assert (0.04, 0.08, 0.92, "#404040", None) in shown, "shared"
    assert (1.04, 0.08, 0.92, color("weights"), None) in shown, "A's own"
    assert (2.04, 0.08, 0.23, color("kv_cache"), None) in shown, "B's, a quarter full"
    assert [box[:2] for box in shown if box[4]] == [(2.04, 0.08)], (
        "wasted slots are hatched, in one page only"
    )
    assert (3.04, 0.08, 0.92, "#c8c8c8", None) in shown, "cached"
    assert shown[-1] == (0.04, 1.08, 0.92, "#f4f4f4", None), "the fifth page begins the second row"
    assert [text.get_text() for text in fig.axes[0].texts] == ["AB", "A", "B"]
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["0", "4"]


def test_the_legend_says_what_is_there():
    def labels(fig):
        return [t.get_text() for t in fig.axes[0].get_legend().get_texts()]

    assert labels(draw_pages(MAP, "")) == ["A", "B", "shared", "free, cached", "free"]
    assert labels(draw_pages(PageMap(4, (("A",), ()), (4, 0), frozenset()), "")) == ["A", "free"]
    many = PageMap(4, tuple((i,) for i in range(8)), (4,) * 8, frozenset())
    assert labels(draw_pages(many, "")) == ["free"], "colours come again, so no colour names a request"


def test_long_names_become_a_number():
    shared = PageMap(4, (("long", "name"), ("x",)), (4, 4), frozenset())
    assert [text.get_text() for text in draw_pages(shared, "").axes[0].texts] == ["2x", "x"]


def test_one_request_keeps_its_colour_when_all_are_named():
    alone = PageMap(4, (("B",),), (4,), frozenset())
    assert boxes(draw_pages(alone, "", names="AB"))[-1][3] == color("kv_cache")
    assert boxes(draw_pages(alone, ""))[-1][3] == color("weights")


def test_colours_come_again_after_the_seventh():
    colors = list(request_colors(range(8)).values())
    assert len(set(colors[:7])) == 7
    assert colors[7] == colors[0]


def test_history_has_a_column_for_each_moment():
    empty = PageMap(4, ((),) * 5, (0,) * 5, frozenset())
    fig = draw_history([MAP, MAP, empty], "time", {2: "B ends"})
    image = fig.axes[0].images[0].get_array()
    assert image.shape == (5, 3, 3)
    np.testing.assert_allclose(image[0, 0], to_rgb("#404040"))
    np.testing.assert_allclose(image[1, 1], to_rgb(color("weights")))
    strength = 0.35 + 0.65 / 4
    np.testing.assert_allclose(image[2, 0], 1 - strength * (1 - np.array(to_rgb(color("kv_cache")))))
    np.testing.assert_allclose(image[3, 0], to_rgb("#C8C8C8"))
    np.testing.assert_allclose(image[0, 2], to_rgb("#F4F4F4"))
    assert [text.get_text() for text in fig.axes[0].texts] == ["B ends"]
    assert fig.axes[0].lines[0].get_xdata()[0] == 2
    assert fig.axes[0].images[0].get_extent() == [0, 3, 5, 0], "page 0 is at the top"


def test_shares_add_up_and_small_ones_have_no_number():
    runs = {
        "rows": Occupancy(100, (1,), (90,), (20,), 1, 0, 0),
        "pages": Occupancy(100, (1,), (90,), (88,), 1, 0, 0),
    }
    ax = draw_shares(runs, "shares").axes[0]
    assert [t.get_text() for t in ax.texts] == ["20", "88", "70", "10", "10"]
    widths = np.array([patch.get_width() for patch in ax.patches]).reshape(3, 2)
    np.testing.assert_allclose(widths, [[20, 88], [70, 2], [10, 10]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["rows", "pages"]
    assert ax.yaxis_inverted()


@pytest.mark.parametrize("make", [
    lambda: draw_pages(MAP, "t"),
    lambda: draw_history([MAP] * 3, "t", {1: "mark"}),
    lambda: draw_shares({"a": Occupancy(9, (1,), (9,), (2,), 1, 0, 0)}, "t"),
])  # fmt: skip
def test_the_legend_covers_nothing(make):
    fig = make()
    fig.canvas.draw()
    legend, axis = fig.axes[0].get_legend().get_window_extent(), fig.axes[0].xaxis.get_tightbbox()
    lowest = axis.y0 if axis else fig.axes[0].get_window_extent().y0
    assert 0 <= legend.y0 < legend.y1 <= lowest


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="1 or more columns, got 0"):
        draw_pages(MAP, "", columns=0)
    other = PageMap(4, ((),), (0,), frozenset())
    for maps in ([], [MAP, other]):
        with pytest.raises(ValueError, match="one or more maps, all of one pool"):
            draw_history(maps, "")
