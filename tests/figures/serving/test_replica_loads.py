"""Loads of replicas and points of routers."""

import pytest

from helpers.figures import draw_loads, draw_routers


def test_each_replica_has_a_line_in_each_panel():
    fig = draw_loads("title", {"a": [(0.0, (1, 0)), (1.0, (1, 3))], "b": [(0.5, (2, 2))]})
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    lines = [list(map(list, line.get_data())) for line in fig.axes[0].lines]
    assert lines == [[[0.0, 1.0], [1, 1]], [[0.0, 1.0], [0, 3]]]


@pytest.mark.parametrize("panels", [{}, {"a": []}, {"a": [(0.0, tuple(range(9)))]}])
def test_loads_that_cannot_be_drawn(panels):
    with pytest.raises(ValueError, match=r"expected one panel|8 replicas"):
        draw_loads("title", panels)


def test_each_router_has_a_point():
    (ax,) = draw_routers("title", {"a": (10, 0.5), "b": (3, 0.25)}, "x", "y").axes
    assert [tuple(float(v[0]) for v in line.get_data()) for line in ax.lines] == [(10, 0.5), (3, 0.25)]
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    with pytest.raises(ValueError, match="1 to 8"):
        draw_routers("title", {}, "x", "y")
