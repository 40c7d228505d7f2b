"""Pictures of quantisation: grids and the weights between them, loud channels, quality against bytes, times over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from helpers.display import plots

_COLORS = ("weights", "decode", "activations", "accent", "kv_cache", "muted")
_MARKERS = "osD^vX"
_LEAST = 3e-4
"""The least divergence that has a position of its own in `draw_quality`."""
_NEAR, _BESIDE = 1.7, 5.0
"""A point whose divergence is up to so many times another's, and within so many MB of it, has its name above; the
other one has it below, so that the names do not touch."""


def draw_grids(weights: Sequence[float], grids: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Return a figure with a line for each grid: its values as ticks, and the same weights as dots on each.

    Values outside the weights' range are not shown.
    """
    low, high = min(weights), max(weights)
    edge = 0.06 * (high - low)
    fig, ax = plots.new_figure(title, "weight", "", height=1.5 + 0.55 * len(grids), left=0.2)
    for y, values in enumerate(grids.values()):
        shown = [value for value in values if low - edge <= value <= high + edge]
        ax.plot(shown, [y] * len(shown), "|", markersize=26, color=plots.COLORS["muted"])
        ax.plot(weights, [y] * len(weights), "o", markersize=6, alpha=0.6, color=plots.COLORS["weights"])
    ax.set_yticks(range(len(grids)), list(grids))
    ax.set_xlim(low - edge, high + edge)
    ax.set_ylim(len(grids) - 0.5, -0.5)
    ax.grid(visible=False)
    return fig


def draw_channels(largest: Mapping[str, Tensor], title: str) -> Figure:
    """Return a figure of the largest activation of each channel, in descending order, one line for each name."""
    fig, ax = plots.new_figure(title, "channels, from the loudest on", "largest |x|")
    for (name, values), color in zip(largest.items(), _COLORS, strict=False):
        ordered = values.sort(descending=True).values.tolist()
        ax.plot(range(1, len(ordered) + 1), ordered, label=name, color=plots.COLORS[color], linewidth=2)
    plots.log_axis(ax, "x")
    plots.log_axis(ax, "y")
    plots.legend(ax)
    return fig


def draw_quality(
    points: Mapping[str, Mapping[str, tuple[float, float]]], title: str, most: float | None = None
) -> Figure:
    """Return a figure of divergence over megabytes: families of named points `(bytes, divergence)`.

    A divergence under 0.0003 is drawn at 0.0003, at the bottom, and its name says so. In the right half such a
    long name stands to the left of its point, where it has room. The axis ends at `most` bytes, so that figures
    can be compared; by default behind the last point.
    """
    largest = max(nbytes for named in points.values() for nbytes, _ in named.values())
    last = (most or 1.18 * largest) / 1e6
    fig, ax = plots.new_figure(
        title, "MB of weights in the layers", "KL divergence, nats a token", height=4.4
    )
    for (family, named), color, marker in zip(points.items(), _COLORS, _MARKERS, strict=False):
        xs = [nbytes / 1e6 for nbytes, _ in named.values()]
        ys = [max(_LEAST, divergence) for _, divergence in named.values()]
        ax.plot(xs, ys, marker, markersize=8, label=family, color=plots.COLORS[color])
        for (name, (_, divergence)), x, y in zip(named.items(), xs, ys, strict=True):
            told = name if divergence >= _LEAST else f"{name} (KL below {_LEAST})"
            left = told != name and x > 0.45 * last
            crowded = any(
                y < other <= _NEAR * y and abs(x - at) < _BESIDE for at, other in zip(xs, ys, strict=True)
            )
            place = (-7 if left else 7, -9 if crowded else 3)
            side = "right" if left else "left"
            ax.annotate(told, (x, y), textcoords="offset points", xytext=place, fontsize=9, ha=side)
    plots.log_axis(ax, "y")
    ax.set_ylim(2e-4, 40)
    ax.set_xlim(0, last)
    if len(points) > 1:
        plots.legend(ax, loc="upper right")
    return fig


def draw_over_rows(lines: Mapping[str, Mapping[int, float]], title: str, ylabel: str) -> Figure:
    """Return a figure with a line for each name over the tokens of a pass, both axes logarithmic."""
    fig, ax = plots.new_figure(title, "tokens in a pass", ylabel)
    for (name, line), color, marker in zip(lines.items(), _COLORS, _MARKERS, strict=False):
        ax.plot(list(line), list(line.values()), marker=marker, color=plots.COLORS[color], label=name)
    plots.log_axis(ax, "x")
    plots.log_axis(ax, "y")
    counts = sorted({count for line in lines.values() for count in line})
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.xaxis.set_minor_locator(NullLocator())
    plots.legend(ax)
    return fig
