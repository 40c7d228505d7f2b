"""Pictures of several devices: how a layer is cut, who computes when in a pipeline, what a pass waits for, messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from helpers.display import plots
from helpers.parallel.pipeline_clock import Slot
from helpers.parallel.shards import Shard
from helpers.simulation.collective_times import Wire

_COLORS = ("weights", "kv_cache", "activations", "decode", "accent", "prefill", "highlight")


def draw_cuts(shards: Sequence[Shard], title: str) -> Figure:
    """Return a figure of one layer's four matrices, `[out, in]`: the part of each rank in a colour of its own.

    Matrices before the heads and the activation are cut by rows (their outputs), those behind by columns.
    """
    fig = plots.figure_of_panels(title, width=9.0, height=3.0)
    panels = fig.subplots(1, 4)
    fig.subplots_adjust(left=0.03, right=0.98, bottom=0.3, top=0.78, wspace=0.3)
    heads = [
        [len(s.heads) for s in shards],
        [len(s.kv_heads) for s in shards],
        [len(s.kv_heads) for s in shards],
    ]
    columns = [len(shard.columns) for shard in shards]
    _matrix(panels[0], "q, k, v", heads, by_rows=True)
    _matrix(panels[1], "output of attention", heads[:1], by_rows=False)
    _matrix(panels[2], "gate, up", [columns, columns], by_rows=True)
    _matrix(panels[3], "down", [columns], by_rows=False)
    names = [Rectangle((0, 0), 1, 1, color=plots.COLORS[_COLORS[rank]]) for rank in range(len(shards))]
    fig.legend(
        names, [f"rank {rank}" for rank in range(len(shards))], loc="lower center", ncols=len(shards),
        fontsize=10, frameon=False,
    )  # fmt: skip
    return fig


def _matrix(ax: Axes, name: str, parts: Sequence[Sequence[int]], by_rows: bool) -> None:
    """Draw one matrix: fused parts one behind the other, each shared by the ranks."""
    total, at = sum(map(sum, parts)), 0.0
    for part in parts:
        for rank, size in enumerate(part):
            share = size / total
            place = (0, 1 - at - share, 1, share) if by_rows else (at, 0, share, 1)
            ax.add_patch(
                Rectangle(
                    place[:2], place[2], place[3], facecolor=plots.COLORS[_COLORS[rank]], edgecolor="white",
                    linewidth=1.5,
                )
            )  # fmt: skip
            at += share
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_axis_off()
    ax.set_title(name, fontsize=11)
    then = (
        "each rank has\nits own outputs" if by_rows else "each rank has a summand:\na sum over ranks follows"
    )
    ax.text(0.5, -0.06, then, ha="center", va="top", fontsize=9, transform=ax.transAxes)


def draw_slots(schedules: Mapping[str, Sequence[Slot]], title: str, until: float | None = None) -> Figure:
    """Return a figure with a row for each stage of each schedule: which group it computes when, gaps left white.

    Times are in the unit of the schedules' costs, up to `until`.
    """
    stages = {name: 1 + max(slot.stage for slot in slots) for name, slots in schedules.items()}
    fig, ax = plots.new_figure(
        title,
        "time (1 = one stage's part of a pass)",
        "",
        height=1.6 + 0.34 * sum(stages.values()) + 0.17 * len(stages),
        left=0.24,
    )
    ticks, row = {}, 0.0
    for name, slots in schedules.items():
        for stage in range(stages[name]):
            ticks[row] = f"{name}, stage {stage + 1}" if not stage else f"stage {stage + 1}"
            for slot in slots:
                if slot.stage == stage:
                    _slot(ax, slot, row)
            row += 1
        row += 0.5
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.set_ylim(row - 1, -0.7)
    ax.set_xlim(0, until or float(max(slot.end for slots in schedules.values() for slot in slots)))
    ax.grid(visible=False)
    groups = sorted({slot.group for slots in schedules.values() for slot in slots})
    marks = [Rectangle((0, 0), 1, 1, color=plots.COLORS[_COLORS[group % len(_COLORS)]]) for group in groups]
    names = [f"group {group + 1}" for group in groups]
    fig.legend(marks, names, loc="lower center", ncols=4, fontsize=10, frameon=False)
    fig.subplots_adjust(bottom=0.95 / fig.get_figheight())
    return fig


def _slot(ax: Axes, slot: Slot, row: float) -> None:
    """Draw one part of a pass."""
    color = plots.COLORS[_COLORS[slot.group % len(_COLORS)]]
    width = float(slot.end - slot.begin)
    ax.barh(row, width, left=float(slot.begin), height=0.8, color=color, edgecolor="white", linewidth=0.8)


def draw_parts(parts: Mapping[str, Mapping[str, float]], title: str, xlabel: str, marked: str = "") -> Figure:
    """Return a figure with a stacked bar for each name; its parts stand from left to right.

    The bar called `marked` has a frame.
    """
    fig, ax = plots.new_figure(title, xlabel, "", height=1.9 + 0.36 * len(parts), left=0.2)
    kinds = list(dict.fromkeys(kind for named in parts.values() for kind in named))
    left = [0.0] * len(parts)
    for kind, color in zip(kinds, _COLORS, strict=False):
        widths = [named.get(kind, 0.0) for named in parts.values()]
        ax.barh(range(len(parts)), widths, left=left, height=0.62, color=plots.COLORS[color], label=kind)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    if marked in parts:
        place = list(parts).index(marked)
        ax.barh([place], [left[place]], height=0.72, color="none", edgecolor="black", linewidth=1.6)
    ax.set_yticks(range(len(parts)), list(parts))
    ax.invert_yaxis()
    ax.set_xlim(0, 1.04 * max(left))
    ax.xaxis.set_major_locator(MaxNLocator(6))
    fig.legend(loc="lower center", ncols=3, fontsize=10, frameon=False)
    fig.subplots_adjust(bottom=1.1 / fig.get_figheight())
    return fig


def draw_messages(
    measured: Mapping[str, Mapping[int, float]],
    wires: Mapping[str, Wire],
    held_out: Sequence[int],
    title: str,
) -> Figure:
    """Return a figure of seconds over bytes: measured messages as marks, each wire's prediction as a line.

    Marks of sizes in `held_out`, which the line was not fitted to, are hollow; the legend says so.
    """
    fig, ax = plots.new_figure(title, "kB of the message", "µs")
    for (name, times), color, marker in zip(measured.items(), _COLORS, "os^v", strict=False):
        shade, sizes = plots.COLORS[color], np.geomspace(min(times), max(times), 60)
        told = [1e6 * wires[name].send(size) for size in sizes]
        ax.plot(sizes / 1e3, told, color=shade, label=f"{name}, predicted")
        label: str | None = f"{name}, measured (hollow: not fitted)"
        for size in sorted(times):
            face = "white" if size in held_out else shade
            ax.plot(
                size / 1e3,
                1e6 * times[size],
                marker,
                color=shade,
                markerfacecolor=face,
                markersize=8,
                label=label,
            )
            label = None
    plots.log_axis(ax, "x")
    plots.log_axis(ax, "y")
    plots.legend(ax)
    return fig
