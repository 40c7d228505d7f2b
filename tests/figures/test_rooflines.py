"""The roofline has its corner at the ridge, and work stands where it was measured."""

import pytest

from helpers.estimates import Ceilings
from helpers.figures import Point, roofline


def test_a_roofline_has_its_corner_at_the_ridge():
    device = Ceilings(bandwidth=1e9, flops=8e9)
    fig = roofline("one", {"device": device}, [Point("work", 2.0, 1.5e9, "decode")])
    line, point = fig.axes[0].lines
    assert list(line.get_xdata())[1] == 8
    assert list(line.get_ydata())[1:] == [8, 8]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (2.0, 1.5)
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["device", "work"]


def test_too_many_or_no_devices_are_refused():
    with pytest.raises(ValueError, match="1 to 4"):
        roofline("none", {})
    with pytest.raises(ValueError, match="1 to 4"):
        roofline("many", {str(i): Ceilings(1e9, 1e9) for i in range(5)})
