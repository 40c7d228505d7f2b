"""Pictures of paged memory: which request holds which page, how full the pages are, and how both change."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from helpers.display import plots
from helpers.figures.page_map import PageMap
from helpers.simulation.occupancy import Occupancy

_REQUESTS = ("weights", "kv_cache", "activations", "accent", "prefill", "decode", "highlight")
_SHARED, _CACHED, _FREE, _WASTED = "#404040", "#C8C8C8", "#F4F4F4", "//////"
_LABELLED = 24  # up to so many columns, a page has room for a name


def draw_pages(
    page_map: PageMap, title: str, columns: int = 16, names: Sequence[Hashable] | None = None
) -> Figure:
    """Return the pool as a grid of pages, read line by line, each page in the colour of its request.

    The hatched part of a page is wasted. A page that several requests share is dark and shows all their
    names. Give the `names` of all requests where several pictures shall show one request in one colour.
    Raises ValueError for less than one column.
    """
    if columns < 1:
        raise ValueError(f"a grid has 1 or more columns, got {columns}")
    rows = -(-page_map.num_pages // columns)
    fig, ax = plots.new_figure(title, "", "page", height=1.25 + 0.42 * rows)
    colors = request_colors(names or page_map.names)
    colors = {name: colors[name] for name in page_map.names}
    for page in range(page_map.num_pages):
        _draw_page(ax, page_map, page, (page % columns, page // columns), colors, columns <= _LABELLED)
    ax.set_xlim(-0.1, columns + 0.1)
    ax.set_ylim(rows, 0)
    ax.set_yticks([row + 0.5 for row in range(rows)], [str(row * columns) for row in range(rows)])
    ax.set_xticks([])
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)
    _legend(fig, ax, colors, page_map.shared > 0, bool(page_map.cached))
    return fig


def draw_history(maps: Sequence[PageMap], title: str, marks: Mapping[int, str] | None = None) -> Figure:
    """Return the pool over time: a column for each of the `maps`, a line for each page.

    The emptier a page is, the paler is its colour. `marks` are words written above some of the columns.
    Raises ValueError for no map and for maps of different pools.
    """
    if not maps or len({(m.num_pages, m.page_size) for m in maps}) > 1:
        raise ValueError("expected one or more maps, all of one pool")
    colors = request_colors(sorted({name for m in maps for name in m.names}, key=str))
    image = np.array([_column(m, colors) for m in maps]).transpose(1, 0, 2)
    height = min(6.0, 2.2 + 0.11 * maps[0].num_pages)
    fig, ax = plots.new_figure(title, "pass", "page", height=height)
    ax.imshow(image, aspect="auto", interpolation="nearest", extent=(0, len(maps), maps[0].num_pages, 0))
    ax.grid(visible=False)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for column, words in (marks or {}).items():
        ax.axvline(column, color="black", linestyle=":", linewidth=1.2)
        ax.text(column, -0.3, words, fontsize=9, ha="center", va="bottom")
    if marks:
        ax.set_title(title, fontsize=13, loc="left", pad=18)
        fig.subplots_adjust(top=1 - 0.62 / height)
    _legend(fig, ax, colors, any(m.shared for m in maps), any(m.cached for m in maps), below=0.5)
    return fig


def draw_shares(runs: Mapping[str, Occupancy], title: str) -> Figure:
    """Return a figure with a bar for each run: memory with tokens, memory taken but empty, free memory."""
    fig, ax = plots.new_figure(title, "% of the memory", "", height=1.5 + 0.42 * len(runs), left=0.2)
    parts = {"tokens": "kv_cache", "taken, empty": "muted", "free": ""}
    left = np.zeros(len(runs))
    for i, (name, color) in enumerate(parts.items()):
        widths = np.array([100 * run.shares[i] for run in runs.values()])
        face = plots.COLORS[color] if color else _FREE
        ax.barh(range(len(runs)), widths, left=left, color=face, height=0.7, label=name)
        for y, (x, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 4:
                ax.text(x + width / 2, y, f"{width:.0f}", ha="center", va="center", fontsize=10)
        left += widths
    ax.set_yticks(range(len(runs)), list(runs))
    ax.set_xlim(0, 100)
    ax.invert_yaxis()
    ax.grid(visible=False)
    _below(fig, ax, 3)
    return fig


def request_colors(names: Sequence[Hashable]) -> dict[Hashable, str]:
    """Return a colour for each request, in the order of the names; colours repeat after the seventh."""
    return {name: plots.COLORS[_REQUESTS[i % len(_REQUESTS)]] for i, name in enumerate(names)}


def _draw_page(
    ax: Axes,
    page_map: PageMap,
    page: int,
    at: tuple[int, int],
    colors: Mapping[Hashable, str],
    labelled: bool,
) -> None:
    """Draw one page as a box, filled from the left."""
    names, share = page_map.holders[page], page_map.filled[page] / page_map.page_size
    x, y = at[0] + 0.04, at[1] + 0.08
    blank = _CACHED if page in page_map.cached else _FREE
    ax.add_patch(Rectangle((x, y), 0.92, 0.84, facecolor=blank, edgecolor="#AAAAAA", linewidth=0.8))
    if not names:
        return
    color = _SHARED if len(names) > 1 else colors[names[0]]
    if share < 1:
        ax.add_patch(
            Rectangle(
                (x, y), 0.92, 0.84, facecolor="white", edgecolor="#666666", hatch=_WASTED, linewidth=0.8
            )
        )
    ax.add_patch(Rectangle((x, y), 0.92 * share, 0.84, facecolor=color, edgecolor="#333333", linewidth=0.8))
    if labelled:
        words = "".join(map(str, names)) if len("".join(map(str, names))) <= 4 else f"{len(names)}x"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
        ax.text(x + 0.46, y + 0.42, words, ha="center", va="center", fontsize=9, bbox=box)


def _column(page_map: PageMap, colors: Mapping[Hashable, str]) -> np.ndarray:
    """Return the colours of all pages at one moment, `[pages, 3]`."""
    column = np.empty((page_map.num_pages, 3))
    for page, names in enumerate(page_map.holders):
        if not names:
            column[page] = to_rgb(_CACHED if page in page_map.cached else _FREE)
            continue
        color = np.array(to_rgb(_SHARED if len(names) > 1 else colors[names[0]]))
        strength = 0.35 + 0.65 * page_map.filled[page] / page_map.page_size
        column[page] = 1 - strength * (1 - color)
    return column


def _legend(
    fig: Figure, ax: Axes, colors: Mapping[Hashable, str], shared: bool, cached: bool, below: float = 0.0
) -> None:
    """Draw what the colours mean; requests are named as long as each request has a colour of its own."""
    if len(colors) <= len(_REQUESTS):
        for name, color in colors.items():
            ax.plot([], [], "s", color=color, markersize=9, label=str(name))
    for name, color, here in (
        ("shared", _SHARED, shared),
        ("free, cached", _CACHED, cached),
        ("free", _FREE, True),
    ):
        if here:
            ax.plot([], [], "s", color=color, markeredgecolor="#AAAAAA", markersize=9, label=name)
    _below(fig, ax, 10, below)


def _below(fig: Figure, ax: Axes, columns: int, more: float = 0.35) -> None:
    """Put the legend under the axes, `more` inches lower than the axes need."""
    fig.subplots_adjust(bottom=(0.6 + more) / fig.get_figheight())
    plots.legend(
        ax, loc="lower center", ncols=columns, bbox_to_anchor=(0.5, 0.0), bbox_transform=fig.transFigure,
        columnspacing=1.0, handletextpad=0.2,
    )  # fmt: skip
