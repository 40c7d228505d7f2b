"""Whether the numbers at a figure's axes can be read: no two of them may overlap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

# Set for tests and when notebooks are made, so that such a figure is never stored. A learner's figure is shown as it is.
STRICT_FIGURES = "COURSE_STRICT_FIGURES"


def require_apart(fig: Figure) -> None:
    """Raise ValueError when two tick labels of a drawn figure overlap, where `COURSE_STRICT_FIGURES` is set."""
    if os.environ.get(STRICT_FIGURES) and (pairs := overlapping_labels(fig)):
        words = "; ".join(f"{one!r} and {other!r}" for one, other in pairs)
        raise ValueError(f"tick labels overlap in the figure {_title(fig)!r}: {words}")


def overlapping_labels(fig: Figure) -> list[tuple[str, str]]:
    """Return the texts of each two tick labels that overlap in a figure that has been drawn."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in _shown(fig)]
    return [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if a.overlaps(b)]


def _shown(fig: Figure) -> Iterator[Text]:
    """Give all tick labels that a reader sees, of large and small ticks."""
    for ax in fig.axes:
        if ax.axison and ax.get_visible():
            yield from _labels(ax.xaxis)
            yield from _labels(ax.yaxis)


def _labels(axis: Axis) -> Iterator[Text]:
    """Give an axis' labels; matplotlib keeps ticks beyond the axis' ends, and does not draw those."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        if low - slack <= tick.get_loc() <= high + slack:
            yield from (
                text for text in (tick.label1, tick.label2) if text.get_visible() and text.get_text().strip()
            )


def _title(fig: Figure) -> str:
    """Return the figure's title, or that of its first axes."""
    return fig.get_suptitle() or next((ax.get_title(loc="left") for ax in fig.axes), "")
