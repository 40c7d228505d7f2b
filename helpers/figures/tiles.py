"""Pictures of tiled attention: what is known after each tile, and which tiles are computed at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from helpers.attention.flash_attention import TileState
from helpers.attention.tiles import Kind, Tiling, Visibility
from helpers.display import plots

_HIDDEN, _HATCH = "#BDBDBD", "////"
_WEIGHTS = LinearSegmentedColormap.from_list("weights", ["#FFFFFF", plots.COLORS["weights"]])
_KINDS: dict[Kind, str] = {
    "full": plots.COLORS["weights"],
    "masked": plots.COLORS["kv_cache"],
    "skipped": "#EEEEEE",
}
_MOST_TILES = 2**18


def draw_steps(
    states: Sequence[TileState],
    title: str,
    frames: Sequence[int] | None = None,
    *,
    columns: int = 4,
    head: int = 0,
) -> Figure:
    """Return a figure with a panel for each tile: the weights of one `head` as they are known after the tile.

    `states` are all of `FlashAttention.steps`; `frames` says which of them to draw (all if None). The head is
    one of the first sequence's. A cell's blue is its weight so far; the weight shrinks when larger scores
    arrive. Grey cells are hidden, hatched tiles are skipped, and the frame is the tile just taken in. At the
    right of each query stand its maximum `m` and its sum `l`. Raises ValueError for no state and for a frame
    that is not there.
    """
    wanted = list(range(len(states)) if frames is None else frames)
    if not wanted or not all(0 <= frame < len(states) for frame in wanted):
        raise ValueError(f"expected frames from 0 to {len(states) - 1}, got {wanted}")
    columns = min(columns, len(wanted))
    rows = -(-len(wanted) // columns)
    size = states[-1].tile.q_end, max(state.tile.k_end for state in states)
    width, panel = 10.0, (10.0 / columns) * (size[0] / (size[1] + 3)) + 0.55
    fig = plots.figure_of_panels(title, width=width, height=rows * panel + 1.1)
    grid = fig.add_gridspec(
        rows, columns, left=0.03, right=0.99, wspace=0.08, hspace=0.3 / (panel - 0.3),
        top=1 - 0.75 / fig.get_figheight(), bottom=0.65 / fig.get_figheight(),
    )  # fmt: skip
    for place, frame in enumerate(wanted):
        ax = fig.add_subplot(grid[place // columns, place % columns])
        _draw_frame(ax, states[: frame + 1], size, head)
        if place == columns * (rows - 1):
            ax.set_xlabel("keys", fontsize=9, loc="left")
            ax.set_ylabel("queries", fontsize=9)
        ax.set_title(f"{frame + 1}: {states[frame].tile.kind}", fontsize=10, loc="left", pad=4)
    _steps_legend(fig)
    return fig


def draw_tiles(seen: Visibility, tiling: Tiling, title: str) -> Figure:
    """Return the tiles as a grid, queries downwards and keys to the right, coloured by kind.

    Raises ValueError for more than 262144 tiles.
    """
    counts = tiling.count(seen)
    if sum(counts.values()) > _MOST_TILES:
        raise ValueError(f"a picture has up to {_MOST_TILES} tiles, got {sum(counts.values())}")
    names = list(_KINDS)
    blocks = list(tiling.query_tiles(seen.q_len))
    image = np.array([[names.index(tile.kind) for tile in tiling.row(seen, *block)] for block in blocks])
    fig, ax = plots.new_figure(title, "keys", "queries", height=4.2)
    extent = (0, image.shape[1] * tiling.key_block, image.shape[0] * tiling.query_block, 0)
    colors = ListedColormap([_KINDS[name] for name in names])
    ax.imshow(image, cmap=colors, vmin=0, vmax=2, extent=extent, aspect="auto", interpolation="nearest")
    if len(blocks) <= 64:
        _lines(ax, tiling, image.shape)
    ax.grid(visible=False)
    ax.set_xlim(0, seen.kv_len)
    ax.set_ylim(seen.q_len, 0)
    patches = [
        Patch(facecolor=_KINDS[name], edgecolor="#666666", label=f"{counts[name]} {name}") for name in names
    ]
    plots.legend(ax, handles=patches, loc="upper right")
    return fig


def known_weights(states: Sequence[TileState], size: tuple[int, int], head: int = 0) -> np.ndarray:
    """Return each weight as it is after the last of the states, `[queries, keys]`.

    A weight is minus infinity for a hidden key, and NaN where no tile was taken in yet.
    """
    weights = np.full(size, np.nan)
    for state in states:
        latest = next(s for s in reversed(states) if s.tile.q_start == state.tile.q_start)
        scores, maximum, total = (
            t[0, head].double().numpy() for t in (state.scores, latest.maximum, latest.total)
        )
        tile, hidden = state.tile, np.isneginf(scores)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.exp(scores - maximum[:, None]) / total[:, None]
        weights[tile.q_start : tile.q_end, tile.k_start : tile.k_end] = np.where(hidden, -np.inf, share)
    return weights


def _draw_frame(ax: Axes, states: Sequence[TileState], size: tuple[int, int], head: int) -> None:
    """Draw one panel: the states up to the state that it shows."""
    weights, (queries, keys) = known_weights(states, size, head), size
    for i, j in np.argwhere(~np.isnan(weights)):
        face = _HIDDEN if np.isneginf(weights[i, j]) else _WEIGHTS(weights[i, j])
        ax.add_patch(Rectangle((j, i), 1, 1, facecolor=face, edgecolor="#CCCCCC", linewidth=0.5))
    for state in states:
        if state.tile.kind == "skipped":
            ax.add_patch(_box(state, facecolor="#F4F4F4", edgecolor="#AAAAAA", hatch=_HATCH, linewidth=0.5))
    ax.add_patch(_box(states[-1], fill=False, edgecolor=plots.COLORS["decode"], linewidth=2.2))
    latest = {state.tile.q_start: state for state in states}
    for start, state in latest.items():
        for row in range(state.tile.q_end - start):
            maximum, total = state.maximum[0, head, row].item(), state.total[0, head, row].item()
            for x, number in ((keys + 0.3, maximum), (keys + 1.8, total)):
                words = f"{number:.1f}".replace("-inf", "-∞")
                ax.text(x, start + row + 0.5, words, fontsize=7.5, va="center")
    ax.set_xlim(-0.05, keys + 3)
    ax.set_ylim(queries + 0.05, -0.05)
    ax.text(keys + 0.6, -0.15, "m", fontsize=8, style="italic")
    ax.text(keys + 2.1, -0.15, "l", fontsize=8, style="italic")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.add_patch(Rectangle((0, 0), keys, queries, fill=False, edgecolor="#888888", linewidth=0.8))
    for side in ax.spines.values():
        side.set_visible(False)


def _box(state: TileState, **look: object) -> Rectangle:
    """Return a tile's outline."""
    tile = state.tile
    width, height = tile.k_end - tile.k_start, tile.q_end - tile.q_start
    return Rectangle((tile.k_start, tile.q_start), width, height, **look)  # type: ignore[arg-type]


def _lines(ax: Axes, tiling: Tiling, shape: tuple[int, ...]) -> None:
    """Draw white lines between tiles."""
    for row in range(1, shape[0]):
        ax.axhline(row * tiling.query_block, color="white", linewidth=0.8)
    for column in range(1, shape[1]):
        ax.axvline(column * tiling.key_block, color="white", linewidth=0.8)


def _steps_legend(fig: Figure) -> None:
    """Draw what the cells mean."""
    patches = [
        Patch(facecolor=plots.COLORS["weights"], label="weight so far (dark: 1)"),
        Patch(facecolor=_HIDDEN, label="hidden key"),
        Patch(facecolor="#F4F4F4", edgecolor="#AAAAAA", hatch=_HATCH, label="skipped tile"),
        Patch(fill=False, edgecolor=plots.COLORS["decode"], linewidth=2, label="tile taken in"),
    ]
    fig.legend(handles=patches, loc="lower center", ncols=4, fontsize=10, framealpha=0.9)
