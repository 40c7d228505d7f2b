"""Figures that compare schedules: percentiles, a curve for each policy, predictions beside measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from helpers.display import plots
from helpers.traffic.report import Metric, Report

_PERCENTILES = ((50, "o", "weights"), (90, "s", "kv_cache"), (99, "^", "decode"))
_NAMES: dict[Metric, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "latency": "from arrival to end",
    "wait": "wait for the first pass",
    "largest_gap": "longest silence",
}
_LINEAR_UP_TO = 20
"""Ratio of the largest to the smallest value up to which an axis is linear."""
_LINES = ("weights", "kv_cache", "activations", "decode", "accent", "prefill", "black")
_MARKERS = "os^vDPX"


def draw_percentiles(
    title: str, reports: Mapping[str, Report], metrics: Sequence[Metric] = ("ttft", "tpot")
) -> Figure:
    """Return a figure with a line for each report and a panel for each metric: p50, p90 and p99.

    The axis is logarithmic where the values are far apart. Raises ValueError without reports or metrics.
    """
    if not reports or not metrics:
        raise ValueError("expected one report and one metric or more")
    height = 1.75 + 0.36 * len(reports)
    fig = plots.figure_of_panels(title, width=9.0, height=height)
    longest = max(map(len, reports))
    fig.subplots_adjust(left=0.03 + 0.0105 * longest, bottom=1.0 / height, top=1 - 0.5 / height, right=0.97)
    panels = fig.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        _percentiles(panel, reports, metric)
    handles, labels = panels[0].get_legend_handles_labels()
    plots.legend(
        panels[0], handles=handles, labels=labels, loc="lower center", ncols=3,
        bbox_to_anchor=(0.5, 0.0), bbox_transform=fig.transFigure,
    )  # fmt: skip
    return fig


def draw_curves(
    title: str,
    xlabel: str,
    ylabel: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    log: bool = False,
) -> Figure:
    """Return a figure with a line for each name, given as its x and y values.

    `log` makes the y axis logarithmic. Raises ValueError for more than 7 curves.
    """
    if len(curves) > len(_LINES):
        raise ValueError(f"there are colours for {len(_LINES)} curves, got {len(curves)}")
    fig, ax = plots.new_figure(title, xlabel, ylabel)
    for (name, (x, y)), color, marker in zip(curves.items(), _LINES, _MARKERS, strict=False):
        ax.plot(x, y, marker + "-", color=plots.COLORS[color], label=name, markersize=6)
    if log:
        plots.log_axis(ax, "y")
    else:
        ax.set_ylim(bottom=0)
    plots.legend(ax)
    return fig


def draw_predictions(
    title: str, unit: str, pairs: Mapping[str, tuple[float, float]], within: float = 0.15
) -> Figure:
    """Return a figure of predicted over measured values, given as `(predicted, measured)` by name.

    A line marks equal values; a band marks values that differ by the share `within` at most. Raises
    ValueError without pairs and for a value that is not above 0.
    """
    if not pairs or not all(value > 0 for pair in pairs.values() for value in pair):
        raise ValueError(f"expected one pair or more of values above 0, got {dict(pairs)}")
    fig, ax = plots.new_figure(title, f"measured, {unit}", f"simulated, {unit}", height=4.6)
    values = [value for pair in pairs.values() for value in pair]
    ends = [min(values) / 1.4, max(values) * 1.4]
    ax.plot(ends, ends, color=plots.COLORS["muted"], linewidth=1, label="equal")
    low, high = ([factor * end for end in ends] for factor in (1 - within, 1 + within))
    ax.fill_between(
        ends, low, high, color=plots.COLORS["highlight"], alpha=0.4, linewidth=0, label=f"± {within:.0%}"
    )
    for i, (name, (predicted, seen)) in enumerate(pairs.items()):
        color = plots.COLORS[_LINES[i % len(_LINES)]]
        ax.plot(seen, predicted, _MARKERS[i % len(_MARKERS)], color=color, markersize=8, label=name)
    plots.log_axis(ax, "x")
    plots.log_axis(ax, "y")
    plots.legend(ax)
    return fig


def _percentiles(ax: Axes, reports: Mapping[str, Report], metric: Metric) -> None:
    """Draw one panel, in s or ms."""
    rows, longest = (
        list(range(len(reports))),
        max(report.percentile(metric, 99) for report in reports.values()),
    )
    unit, scale = ("ms", 1e3) if longest < 1 else ("s", 1.0)
    found = {
        percent: [scale * report.percentile(metric, percent) for report in reports.values()]
        for percent, _, _ in _PERCENTILES
    }
    ax.hlines(rows, found[50], found[99], color=plots.COLORS["muted"], linewidth=1.2, zorder=1)
    for percent, marker, color in _PERCENTILES:
        ax.plot(found[percent], rows, marker, color=plots.COLORS[color], markersize=8, label=f"p{percent}")
    if max(found[99]) > _LINEAR_UP_TO * min(found[50]) > 0:
        plots.log_axis(ax, "x")
    else:
        ax.set_xlim(0, 1.08 * max(found[99]) or 1.0)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_yticks(rows, list(reports))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(f"{_NAMES[metric]}, {unit}", fontsize=11)
    ax.grid(visible=True, color="#DDDDDD", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
