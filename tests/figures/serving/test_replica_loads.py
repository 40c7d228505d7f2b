"""Loads of replicas over time."""

import pytest

from helpers.figures import draw_loads


def test_each_replica_has_a_line_in_each_panel():
    fig = draw_loads("title", {"a": [(0.0, (1, 0)), (1.0, (1, 3))], "b": [(0.5, (2, 2))]})
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    lines = [list(map(list, line.get_data())) for line in fig.axes[0].lines]
    assert lines == [[[0.0, 1.0], [1, 1]], [[0.0, 1.0], [0, 3]]]


@pytest.mark.parametrize("panels", [{}, {"a": []}, {"a": [(0.0, tuple(range(9)))]}])
def test_loads_that_cannot_be_drawn(panels):
    with pytest.raises(ValueError, match=r"expected one panel|8 replicas"):
        draw_loads("title", panels)
