"""Pictures of attention's cost: over the sequence length, by what moves, and against a chip's buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from helpers.attention.io_model import Traffic
from helpers.attention.on_chip import Need
from helpers.display import plots

_COLORS = ("decode", "weights", "activations", "accent", "kv_cache", "muted")
_MARKERS = "osD^vX"
_PARTS = {"queries": "prefill", "keys_values": "kv_cache", "scores": "decode", "result": "activations"}
_NAMES = {"queries": "Q", "keys_values": "K and V", "scores": "scores and weights", "result": "result"}
_GB, _KIB = 1e9, 1024


def draw_over_length(
    lines: Mapping[str, Mapping[int, float]], title: str, ylabel: str, *, dashed: Sequence[str] = ()
) -> Figure:
    """Return a figure with a line for each name over sequence lengths, both axes logarithmic.

    The lines named in `dashed` are predictions. Raises ValueError for no line, for more than six lines, and
    for a value that is not positive.
    """
    if not 0 < len(lines) <= len(_COLORS):
        raise ValueError(f"expected 1 to {len(_COLORS)} lines, got {len(lines)}")
    fig, ax = plots.new_figure(title, "sequence length in tokens", ylabel, left=0.15)
    for (name, line), color, marker in zip(lines.items(), _COLORS, _MARKERS, strict=False):
        if not line or min(line.values()) <= 0:
            raise ValueError(f"{name}: a logarithmic axis takes positive values, got {dict(line)}")
        look = {"linestyle": "--" if name in dashed else "-", "marker": marker, "color": plots.COLORS[color]}
        ax.plot(list(line), list(line.values()), markersize=6, label=name, **look)  # type: ignore[arg-type]
    plots.log_axis(ax, "x")
    plots.log_axis(ax, "y")
    # Lengths are the only ticks: the 500 of a logarithmic axis would stand under the 512 of a length.
    ax.xaxis.set_minor_locator(NullLocator())
    lengths = sorted({length for line in lines.values() for length in line})
    ax.set_xticks(lengths, [f"{length:,}" for length in lengths])
    plots.legend(ax)
    return fig


def draw_traffic(bars: Mapping[str, Traffic], title: str) -> Figure:
    """Return a figure with a bar for each name: GB (1e9 bytes) moved between memory and chip, by part."""
    fig, ax = plots.new_figure(title, "GB moved", "", height=1.6 + 0.5 * len(bars), left=0.2)
    left = [0.0] * len(bars)
    for part, color in _PARTS.items():
        widths = [getattr(traffic, part) / _GB for traffic in bars.values()]
        ax.barh(
            range(len(bars)), widths, left=left, color=plots.COLORS[color], height=0.6, label=_NAMES[part]
        )
        left = [x + width for x, width in zip(left, widths, strict=True)]
    for y, total in enumerate(left):
        ax.text(total, y, f" {total:.3g}", va="center", fontsize=10)
    ax.set_yticks(range(len(bars)), list(bars))
    ax.set_xlim(0, 1.12 * max(left))
    ax.invert_yaxis()
    _legend_below(fig, 4)
    return fig


def draw_needs(needs: Sequence[Need], title: str) -> Figure:
    """Return a figure with a bar for each buffer: how much of it a tile takes, part by part.

    A bar is hatched where the tile does not fit.
    """
    fig, ax = plots.new_figure(title, "% of the buffer", "", height=1.6 + 0.42 * len(needs), left=0.08)
    most = max([110.0, *(100 * need.used / need.capacity for need in needs)])
    shown = min(most, 250.0)
    for y, need in enumerate(needs):
        left, color = 0.0, plots.COLORS["weights" if need.fits else "decode"]
        for nbytes in need.parts.values():
            width = 100 * nbytes / need.capacity
            hatch = "" if need.fits else "////"
            ax.barh(y, width, left=left, color=color, edgecolor="white", hatch=hatch, height=0.62)
            left += width
        words = f" {_amount(need.used)} of {_amount(need.capacity)}"
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # no line goes through the words
        ax.text(min(left, shown) + 0.5, y, words, va="center", fontsize=10, bbox=paper)
    ax.axvline(100, color="black", linestyle=":", linewidth=1.2)
    for fits, color in ((True, "weights"), (False, "decode")):
        label, hatch = ("fits", "") if fits else ("does not fit", "////")
        ax.barh([0], [0], color=plots.COLORS[color], edgecolor="white", hatch=hatch, label=label)
    ax.set_yticks(range(len(needs)), [need.buffer for need in needs])
    ax.set_xlim(0, 1.35 * shown)
    ax.invert_yaxis()
    _legend_below(fig, 2)
    return fig


def _amount(nbytes: int) -> str:
    """Return bytes as text: in KiB, or in MiB from 10,000 KiB on."""
    kib = nbytes / _KIB
    return f"{kib:,.4g} KiB" if kib < 10_000 else f"{kib / _KIB:,.4g} MiB"


def _legend_below(fig: Figure, columns: int) -> None:
    """Put the legend under the axes."""
    fig.subplots_adjust(bottom=1.0 / fig.get_figheight())
    ax = fig.axes[0]
    plots.legend(
        ax, loc="lower center", ncols=columns, bbox_to_anchor=(0.5, 0.0), bbox_transform=fig.transFigure
    )
