"""Pictures of calls: their bars, rows and lines are those of the numbers."""

from collections import Counter

from helpers.figures import draw_buckets, draw_calls, draw_held, draw_time_lines
from helpers.graphs import Buckets, OpCounts, time_line


def test_a_time_line_has_two_rows_for_each_name():
    lines = {
        "one by one": time_line([1e-6, 9e-6], 5e-6),
        "a graph": time_line([1e-6, 9e-6], 5e-6, graph=True),
    }
    (ax,) = draw_time_lines(lines, "title").axes
    assert [text.get_text() for text in ax.get_yticklabels()] == list(lines)
    spans = [[path.get_extents().x1 for path in bars.get_paths()] for bars in ax.collections]
    assert [[round(x, 6) for x in row] for row in spans] == [[5, 10], [6, 19], [5, 5], [6, 15]]
    assert (ax.get_title(loc="left"), ax.get_xlabel()) == ("title", "µs")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "the host launches",
        "the device runs",
    ]


def test_launches_are_stacked_by_kind():
    counts = OpCounts(
        launches=Counter(
            {"linear": 4, "scaled_dot_product_attention": 2, "index_copy_": 1, "add": 5, "mul": 3}
        )
    )
    fig = draw_calls({"one": counts}, "title")
    assert [bar.get_width() for bar in fig.axes[0].patches] == [4, 2, 1, 8]
    assert [text.get_text() for text in fig.axes[0].texts] == [" 15"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "products",
        "attention",
        "cache write",
        "all else",
    ]


def test_batches_in_and_out_of_graphs_and_the_sizes():
    (ax,) = draw_buckets({1: 5, 3: 7, 9: 2}, Buckets([2, 4]), "title").axes
    assert [(round(bar.get_x() + 0.45), bar.get_height()) for bar in ax.patches] == [(1, 5), (3, 7), (9, 2)]
    assert len({bar.get_facecolor() for bar in ax.patches}) == 2
    assert [line.get_xdata()[0] for line in ax.lines] == [2.5, 4.5]


def test_what_is_held_is_shown_beside_what_there_is():
    (ax,) = draw_held({"L1": (1024, {"a": 256, "b": 512}), "UB": (100, {"c": 150})}, "title").axes
    assert [bar.get_width() for bar in ax.patches][:3] == [25, 50, 150]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["L1", "UB"]
