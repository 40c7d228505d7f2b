"""The picture of a cache's rows shows what is in them."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from helpers.display import plots
from helpers.figures import draw_rows


def test_each_position_has_the_colour_of_its_state():
    fig = draw_rows("rows", [5, 0, 8], 8, [1, 0, 2])
    image = fig.axes[0].images[0].get_array()
    token, new = (np.array(to_rgb(plots.COLORS[name])) for name in ("kv_cache", "decode"))
    assert [int(np.isclose(row, token).all(-1).sum()) for row in image] == [4, 0, 6]
    assert [int(np.isclose(row, new).all(-1).sum()) for row in image] == [1, 0, 2]
    assert np.isclose(image[0, 4], new).all()


def test_the_legend_covers_no_position():
    fig = draw_rows("rows", [48], 48)
    fig.canvas.draw()
    legend, positions = fig.axes[0].get_legend().get_window_extent(), fig.axes[0].get_window_extent()
    assert legend.y1 < positions.y0
    assert legend.y0 >= 0


@pytest.mark.parametrize(("lengths", "new"), [([9], [0]), ([3], [4]), ([3], [-1]), ([3, 2], [1])])
def test_what_cannot_be_is_refused(lengths, new):
    with pytest.raises(ValueError, match="expected"):
        draw_rows("rows", lengths, 8, new)
