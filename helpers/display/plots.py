"""The course's figures: one size, one set of fonts and colours, and their way into a notebook with a text alternative."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator

# The Okabe-Ito palette, which people with any kind of colour vision can tell apart (jfly.uni-koeln.de/color).
# One thing has one colour through the whole course.
COLORS = {
    "weights": "#0072B2",
    "kv_cache": "#E69F00",
    "activations": "#009E73",
    "prefill": "#56B4E9",
    "decode": "#D55E00",
    "accent": "#CC79A7",
    "highlight": "#F0E442",
    "muted": "#7F7F7F",
    "black": "#000000",
}
DPI = 88
_FONT = 11


def new_figure(
    title: str, xlabel: str, ylabel: str, *, width: float = 7.0, height: float = 3.9, left: float = 0.11
) -> tuple[Figure, Axes]:
    """An empty figure of `width` x `height` inches with its axes, labelled; `left` is the margin's share of the width.

    It belongs to no pyplot state, so that none is left open.
    """
    fig = _blank(width, height)
    fig.subplots_adjust(
        left=left * 7.0 / width, right=1 - 0.25 / width, bottom=0.6 / height, top=1 - 0.4 / height
    )
    ax = fig.add_subplot()
    # With y given, matplotlib need not look for the title's place in every drawing.
    ax.set_title(title, fontsize=_FONT + 2, loc="left", y=1.0)
    ax.set_xlabel(xlabel, fontsize=_FONT)
    ax.set_ylabel(ylabel, fontsize=_FONT)
    ax.tick_params(labelsize=_FONT)
    ax.grid(visible=True, color="#DDDDDD", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return fig, ax


def figure_of_panels(title: str, *, width: float = 7.0, height: float, left: float = 0.02) -> Figure:
    """A figure without axes, with its title at the top, `left` of the width from the edge: the caller adds the axes."""
    fig = _blank(width, height)
    fig.suptitle(title, x=left, y=1 - 0.08 / height, ha="left", va="top", fontsize=_FONT + 2)
    return fig


def _blank(width: float, height: float) -> Figure:
    """A figure with nothing in it."""
    fig = Figure(figsize=(width, height))
    FigureCanvasAgg(fig)
    return fig


def stacked_areas(
    ax: Axes, x: Sequence[float], parts: Mapping[str, Sequence[float]], colors: Sequence[str]
) -> None:
    """Areas over `x` on top of each other: `parts` (name to heights) in the named `colors`."""
    ax.stackplot(x, *parts.values(), labels=list(parts), colors=[COLORS[color] for color in colors])
    ax.margins(x=0)


def log_axis(ax: Axes, which: Literal["x", "y"]) -> None:
    """Makes an axis logarithmic, its ticks plain numbers; 2s and 5s have small ones, with numbers where few powers of ten show."""
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis

    def between(value: float, _: int) -> str:
        low, high = axis.get_view_interval()
        return f"{value:,g}" if high < 100 * low else ""

    axis.set_minor_locator(LogLocator(subs=(2, 5), numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(FuncFormatter(between))


def legend(ax: Axes, **options: Any) -> None:
    """A legend in the course's font size; `options` are matplotlib's."""
    ax.legend(fontsize=_FONT - 1, framealpha=0.9, **options)


def png(fig: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes. Its left margin grows if it must."""
    canvas: Any = FigureCanvasAgg(fig)  # matplotlib gives it no types
    usual, fig.dpi = fig.dpi, dpi
    try:
        canvas.draw()
        if _make_room(fig):
            canvas.draw()
        buffer, pixels = io.BytesIO(), canvas.buffer_rgba()
    finally:
        fig.dpi = usual
    options: dict[str, Any] = dict(metadata={"Software": None}, pil_kwargs={"compress_level": 3})
    imsave(buffer, pixels, format="png", dpi=dpi, origin="upper", **options)
    return buffer.getvalue()


def _make_room(fig: Figure) -> bool:
    """Widens the left margin of a drawn figure where tick labels are so long that the y label left it; whether it did.

    Where each text stands is known since the drawing; to ask before that would lay out all tick labels one more time.
    """
    texts = [text for ax in fig.axes if ax.axison for text in _leftmost(ax)]
    edge = 0.06 * fig.dpi  # pixels
    least = min((text.get_window_extent().x0 for text in texts), default=edge)
    if least >= edge / 2:
        return False
    fig.subplots_adjust(left=fig.subplotpars.left + (edge - least) / fig.bbox.width)
    return True


def _leftmost(ax: Axes) -> list[Text]:
    """The y axis' label, which stands left of the numbers at its ticks, or these."""
    if ax.yaxis.label.get_text():
        return [ax.yaxis.label]
    return [tick.label1 for tick in ax.yaxis.get_major_ticks() if tick.label1.get_text()]


def show(fig: Figure, alt: str) -> None:
    """Displays the figure in a notebook; `alt` says in words what it shows, for readers who cannot see it.

    Raises ValueError when `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs a text that says what it shows")
    display(Image(data=png(fig, dpi=2 * DPI), format="png", width=round(fig.get_figwidth() * DPI), alt=alt))  # type: ignore[no-untyped-call]
