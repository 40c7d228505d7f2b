"""Pictures of calls: a step's launches and kernels on a time line, calls by kind, and capture sizes under batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from helpers.attention.on_chip import Need
from helpers.display import plots
from helpers.figures.io import draw_needs
from helpers.graphs.buckets import Buckets, Histogram
from helpers.graphs.counting import OpCounts
from helpers.graphs.launches import Launched

_KINDS = {
    "products": ("linear", "weights"),
    "attention": ("scaled_dot_product_attention", "kv_cache"),
    "cache write": ("index_put_ index_copy_ cat_", "prefill"),
}


def draw_time_lines(lines: Mapping[str, Sequence[Launched]], title: str) -> Figure:
    """Return a figure with two rows for each name: what the host launches, and what the device runs, in µs."""
    fig, ax = plots.new_figure(title, "µs", "", height=1.5 + 0.75 * len(lines), left=0.2)
    ticks: dict[float, str] = {}
    for place, (name, line) in enumerate(lines.items()):
        for row, part, color in ((0.0, "launched", "decode"), (0.38, "ran", "weights")):
            spans = [getattr(one, part) for one in line]
            bars = [(1e6 * a, 1e6 * (b - a)) for a, b in spans]
            ax.broken_barh(
                bars, (place + row - 0.17, 0.34), color=plots.COLORS[color], edgecolor="white", linewidth=0.8,
                label={"launched": "the host launches", "ran": "the device runs"}[part] if not place else None,
            )  # fmt: skip
        ticks[place + 0.19] = name
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    plots.legend(ax, loc="lower right")
    return fig


def draw_calls(counts: Mapping[str, OpCounts], title: str) -> Figure:
    """Return a figure with a bar for each name: launches of a pass by kind, the largest kind of work first."""
    fig, ax = plots.new_figure(title, "launches", "", height=1.7 + 0.5 * len(counts), left=0.25)
    left = [0] * len(counts)
    for kind, color in [*((name, color) for name, (_, color) in _KINDS.items()), ("all else", "decode")]:
        widths = [_of_kind(each, kind) for each in counts.values()]
        ax.barh(range(len(counts)), widths, left=left, color=plots.COLORS[color], height=0.6, label=kind)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for y, total in enumerate(left):
        ax.text(total, y, f" {total}", va="center", fontsize=10)
    ax.set_yticks(range(len(counts)), list(counts))
    ax.set_xlim(0, 1.12 * max(left))
    ax.invert_yaxis()
    fig.legend(loc="lower center", ncols=4, fontsize=10, frameon=False)
    fig.subplots_adjust(bottom=1.0 / fig.get_figheight())
    return fig


def _of_kind(counts: OpCounts, kind: str) -> int:
    """Return the launches of one kind."""
    known = {name for names, _ in _KINDS.values() for name in names.split()}
    if kind == "all else":
        return sum(n for name, n in counts.launches.items() if name not in known)
    return sum(counts.launches[name] for name in _KINDS[kind][0].split())


def draw_buckets(histogram: Histogram, buckets: Buckets, title: str) -> Figure:
    """Return a figure of a histogram of batch sizes: steps in a graph, steps without one, capture sizes as lines."""
    fig, ax = plots.new_figure(title, "requests in the step", "steps")
    for inside, color, label in ((True, "weights", "in a graph"), (False, "muted", "without a graph")):
        part = {b: n for b, n in histogram.items() if (buckets.size_for(b) is not None) == inside}
        if part:
            ax.bar(list(part), list(part.values()), width=0.9, color=plots.COLORS[color], label=label)
    for number, size in enumerate(buckets.sizes):
        name = "captured sizes" if not number else None
        ax.axvline(size + 0.5, color=plots.COLORS["decode"], linestyle="--", linewidth=1.1, label=name)
    ax.set_xlim(0, max(*histogram, *(s for s in buckets.sizes if s <= 2 * max(histogram)), 1) + 1.5)
    plots.legend(ax)
    return fig


def draw_held(buffers: Mapping[str, tuple[int, Mapping[str, int]]], title: str) -> Figure:
    """Return a figure of what each buffer holds: its capacity in bytes, and the bytes of each part."""
    return draw_needs([Need(name, capacity, parts) for name, (capacity, parts) in buffers.items()], title)
