"""Pictures of replicas: how busy each of them is over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from helpers.display import plots

_LINES = ("weights", "kv_cache", "activations", "decode", "accent", "prefill", "black", "muted")


def draw_loads(
    title: str, panels: Mapping[str, Sequence[tuple[float, Sequence[int]]]], ylabel: str = "requests"
) -> Figure:
    """Return a figure with a panel for each name: the load of each replica over time, in steps.

    A panel is a list of `(seconds, load of each replica)` in order of time. Raises ValueError without panels,
    for an empty panel, and for more than 8 replicas.
    """
    if not panels or not all(panels.values()):
        raise ValueError("expected one panel or more, and moments in each")
    count = max(len(loads) for panel in panels.values() for _, loads in panel)
    if count > len(_LINES):
        raise ValueError(f"there are colours for {len(_LINES)} replicas, got {count}")
    fig = plots.figure_of_panels(title, width=9.0, height=3.4)
    fig.subplots_adjust(left=0.07, right=0.98, bottom=0.32, top=0.8, wspace=0.08)
    for ax, (name, panel) in zip(
        fig.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)[0], panels.items(), strict=True
    ):
        moments = [moment for moment, _ in panel]
        for replica in range(count):
            loads = [loads[replica] for _, loads in panel]
            color = plots.COLORS[_LINES[replica]]
            ax.step(moments, loads, where="post", color=color, label=f"replica {replica}")
        ax.set_title(name, fontsize=11)
        ax.set_xlabel("s")
        ax.set_ylim(bottom=0)
        ax.grid(visible=True, color="#DDDDDD", linewidth=0.8)
    fig.axes[0].set_ylabel(ylabel)
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="lower center", ncols=4, fontsize=10, frameon=False)
    return fig
