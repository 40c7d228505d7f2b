"""The style of all figures: size, fonts, colours. How a notebook shows a figure with its text alternative."""

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

from helpers.display.tick_labels import require_apart

# The Okabe-Ito palette, which people with any kind of colour vision can tell apart (jfly.uni-koeln.de/color).
# A subject, such as the KV cache, has the same colour in every figure.
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
    """Return an empty figure of `width` x `height` inches and its labelled axes.

    `left` is the left margin as a share of 7 inches, the usual width. The figure is not registered
    with pyplot, so no figure stays open.
    """
    fig = _blank(width, height)
    fig.subplots_adjust(
        left=left * 7.0 / width, right=1 - 0.25 / width, bottom=0.6 / height, top=1 - 0.4 / height
    )
    ax = fig.add_subplot()
    # With `y` given, matplotlib does not compute the title's height anew in every drawing.
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
    """Return a figure of `width` x `height` inches with a title and without axes: the caller adds the axes.

    The title begins at `left`, a share of the width.
    """
    fig = _blank(width, height)
    fig.suptitle(title, x=left, y=1 - 0.08 / height, ha="left", va="top", fontsize=_FONT + 2)
    return fig


def _blank(width: float, height: float) -> Figure:
    """Return a figure with nothing in it, which is drawn without pyplot."""
    fig = Figure(figsize=(width, height))
    FigureCanvasAgg(fig)
    return fig


def stacked_areas(
    ax: Axes, x: Sequence[float], parts: Mapping[str, Sequence[float]], colors: Sequence[str]
) -> None:
    """Draw areas over `x` on top of each other: `parts` (name to heights) in the named `colors`."""
    ax.stackplot(x, *parts.values(), labels=list(parts), colors=[COLORS[color] for color in colors])
    ax.margins(x=0)


def log_axis(ax: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks.

    Twice and five times a power of ten have small ticks. Small ticks have numbers only where the axis shows
    less than two powers of ten.
    """
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis

    def between(value: float, _: int) -> str:
        low, high = axis.get_view_interval()
        return f"{value:,g}" if high < 100 * low else ""

    axis.set_minor_locator(LogLocator(subs=(2, 5), numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(FuncFormatter(between))


def legend(ax: Axes, **options: Any) -> None:
    """Add a legend in the course's font size; `options` are those of matplotlib's `Axes.legend`."""
    ax.legend(fontsize=_FONT - 1, framealpha=0.9, **options)


def png(fig: Figure, dpi: int = DPI) -> bytes:
    """Return the figure as the bytes of a PNG file; the same figure gives the same bytes.

    The figure's left margin grows where labels need the room. Raises ValueError when two tick labels overlap
    and `COURSE_STRICT_FIGURES` is set, as it is in tests and when notebooks are made.
    """
    canvas: Any = FigureCanvasAgg(fig)  # matplotlib has no types for a canvas
    usual, fig.dpi = fig.dpi, dpi
    try:
        canvas.draw()
        if _make_room(fig):
            canvas.draw()
        require_apart(fig)
        buffer, pixels = io.BytesIO(), canvas.buffer_rgba()
    finally:
        fig.dpi = usual
    options: dict[str, Any] = dict(metadata={"Software": None}, pil_kwargs={"compress_level": 3})
    imsave(buffer, pixels, format="png", dpi=dpi, origin="upper", **options)
    return buffer.getvalue()


def _make_room(fig: Figure) -> bool:
    """Widen the left margin of a drawn figure where a label is cut off; return whether the margin grew.

    The figure's drawing has computed where each text is. To ask before the drawing would lay out all tick
    labels one more time.
    """
    texts = [text for ax in fig.axes if ax.axison for text in _leftmost(ax)]
    edge = 0.06 * fig.dpi  # pixels
    least = min((text.get_window_extent().x0 for text in texts), default=edge)
    if least >= edge / 2:
        return False
    fig.subplots_adjust(left=fig.subplotpars.left + (edge - least) / fig.bbox.width)
    return True


def _leftmost(ax: Axes) -> list[Text]:
    """Return the leftmost texts of the axes: the y label, or the tick labels where there is no y label."""
    if ax.yaxis.label.get_text():
        return [ax.yaxis.label]
    return [tick.label1 for tick in ax.yaxis.get_major_ticks() if tick.label1.get_text()]


def show(fig: Figure, alt: str) -> None:
    """Display the figure in a notebook; `alt` describes the figure for readers who cannot see it.

    Raises ValueError when `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs a text that says what it shows")
    display(Image(data=png(fig, dpi=2 * DPI), format="png", width=round(fig.get_figwidth() * DPI), alt=alt))  # type: ignore[no-untyped-call]
