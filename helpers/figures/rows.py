"""Pictures of caches: which positions are reserved, and which positions hold a token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from helpers.display import plots


def draw_rows(
    title: str, lengths: Sequence[int], capacity: int, new_tokens: Sequence[int] | None = None
) -> Figure:
    """Return a figure with one line of `capacity` positions per row of a cache.

    In row `i`, `lengths[i]` positions hold tokens, and the last `new_tokens[i]` tokens are new. Raises
    ValueError for a length that does not fit.
    """
    fresh = new_tokens or [0] * len(lengths)
    if len(fresh) != len(lengths):
        raise ValueError(f"{len(lengths)} rows, {len(fresh)} counts of new tokens: expected as many of each")
    for length, new in zip(lengths, fresh, strict=True):
        if not 0 <= new <= length <= capacity:
            raise ValueError(f"expected 0 <= new <= length <= {capacity}, got {new} new of {length}")
    names = {
        "reserved, empty": "#E8E8E8",
        "token": plots.COLORS["kv_cache"],
        "new token": plots.COLORS["decode"],
    }
    image = np.empty((len(lengths), capacity, 3))
    image[:] = to_rgb(names["reserved, empty"])
    for row, (length, new) in enumerate(zip(lengths, fresh, strict=True)):
        image[row, :length] = to_rgb(names["token"])
        image[row, length - new : length] = to_rgb(names["new token"])
    fig, ax = plots.new_figure(title, "position in the sequence", "row", height=1.9 + 0.32 * len(lengths))
    ax.imshow(image, aspect="auto", interpolation="nearest", extent=(0, capacity, len(lengths) - 0.5, -0.5))
    ax.set_yticks(range(len(lengths)))
    ax.set_yticks([y - 0.5 for y in range(1, len(lengths))], minor=True)
    ax.grid(visible=False)
    ax.grid(visible=True, which="minor", color="white", linewidth=3)
    for name, color in names.items():
        ax.plot([], [], "s", color=color, markersize=9, label=name)
    fig.subplots_adjust(bottom=1.0 / fig.get_figheight())
    plots.legend(ax, loc="lower center", ncols=3, bbox_to_anchor=(0.5, 0.0), bbox_transform=fig.transFigure)
    return fig
