"""A picture of threads over time: what each of them does, lane by lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from helpers.display import plots

_COLORS = ("decode", "kv_cache", "weights", "activations", "prefill", "accent")


class Span(NamedTuple):
    """Mark a stretch of time, and what is done in it."""

    begin: float
    end: float
    work: str
    """The kind of work; equal kinds have one colour."""
    text: str = ""
    """What stands inside the bar."""


def draw_lanes(title: str, lanes: Mapping[str, Sequence[Span]], xlabel: str = "ms") -> Figure:
    """Return a figure with one lane for each name, the first one on top, and a bar for each span.

    Raises ValueError without spans, for a span that ends before it begins, and for more than 6 kinds of work.
    """
    spans = [span for lane in lanes.values() for span in lane]
    kinds = list(dict.fromkeys(span.work for span in spans))
    if not spans or any(not span.end >= span.begin for span in spans):
        raise ValueError(f"expected spans that end after they begin, got {spans}")
    if len(kinds) > len(_COLORS):
        raise ValueError(f"there are colours for {len(_COLORS)} kinds of work, got {len(kinds)}")
    height = 1.75 + 0.42 * len(lanes)
    fig, ax = plots.new_figure(title, xlabel, "", width=9.0, height=height, left=0.24)
    named = set[str]()
    for row, lane in enumerate(lanes.values()):
        for span in lane:
            color = plots.COLORS[_COLORS[kinds.index(span.work)]]
            label = None if span.work in named else span.work
            named.add(span.work)
            ax.barh(
                row, span.end - span.begin, left=span.begin, height=0.62, color=color, edgecolor="white",
                linewidth=0.8, label=label,
            )  # fmt: skip
            middle = (span.begin + span.end) / 2
            ax.text(middle, row, span.text, ha="center", va="center", fontsize=9, color="white")
    ax.set_yticks(range(len(lanes)), list(lanes))
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    fig.subplots_adjust(bottom=0.95 / height)
    fig.legend(loc="lower center", ncols=4, fontsize=10, frameon=False)
    return fig
