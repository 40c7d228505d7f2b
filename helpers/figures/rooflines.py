"""The roofline as a figure: what a device can reach at each arithmetic intensity, and where work stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from helpers.display import plots
from helpers.estimates.ceilings import Ceilings

_STYLES = ("-", "--", "-.", ":")
_MARKERS = "os^DvP"


class Point(NamedTuple):
    """Describe work to be drawn on the roofline."""

    label: str
    intensity: float
    """Operations per byte."""
    rate: float
    """Operations per second reached, or predicted."""
    color: str
    """A name in `plots.COLORS`."""


def roofline(title: str, devices: Mapping[str, Ceilings], points: Sequence[Point] = ()) -> Figure:
    """Return a figure with the lines of `devices` (name to ceilings) and `points`, both axes logarithmic.

    Raises ValueError for no device, and for more devices than the four that line styles tell apart.
    """
    if not 1 <= len(devices) <= len(_STYLES):
        raise ValueError(f"expected 1 to {len(_STYLES)} devices, got {len(devices)}")
    fig, ax = plots.new_figure(title, "arithmetic intensity, operations per byte", "GFLOP/s")
    ridges = [device.ridge for device in devices.values()]
    low = min([0.25, *(point.intensity / 2 for point in points)])
    high = max([4 * max(ridges), *(2 * point.intensity for point in points)])
    for style, (name, device) in zip(_STYLES, devices.items(), strict=False):
        corners = [low, device.ridge, high]
        heights = [device.attainable(x) / 1e9 for x in corners]
        ax.plot(corners, heights, style, color=plots.COLORS["black"], linewidth=2, label=name)
    for marker, point in zip(_MARKERS * len(points), points, strict=False):
        color = plots.COLORS[point.color]
        ax.plot(point.intensity, point.rate / 1e9, marker, color=color, markersize=9, label=point.label)
    for which in ("x", "y"):
        plots.log_axis(ax, which)
    plots.legend(ax, loc="lower right")
    return fig
