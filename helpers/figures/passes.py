"""Which request was in which pass, and which request waited: a batcher's own log as a Gantt chart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from helpers.display import plots
from helpers.traffic.served import Run

Kind = Literal["waiting", "prefill", "decode", "padding"]
_LOOKS: dict[Kind, dict[str, Any]] = {
    "waiting": dict(color="#D9D9D9", linewidth=0),
    "prefill": dict(facecolor=plots.COLORS["prefill"], edgecolor="white", linewidth=0.6),
    "decode": dict(facecolor=plots.COLORS["decode"], linewidth=0),
    "padding": dict(facecolor="white", edgecolor=plots.COLORS["muted"], hatch="////", linewidth=0.6),
}
_NAMES: dict[Kind, str] = {
    "waiting": "waiting",
    "prefill": "prompt",
    "decode": "answer",
    "padding": "wasted",
}
_HEIGHTS: dict[Kind, float] = {"waiting": 0.16, "prefill": 0.74, "decode": 0.74, "padding": 0.74}
_MOST_LINES = 80
"""Most passes in which tokens can still be seen apart."""


class Bar(NamedTuple):
    """Describe a stretch of a request's time, in seconds since the first arrival."""

    kind: Kind
    begin: float
    end: float


class Chart(NamedTuple):
    """Hold what is to be drawn of a run."""

    bars: dict[Hashable, list[Bar]]
    """Bars by request, in order of arrival."""
    tokens: dict[Hashable, list[float]]
    """When each request's new tokens came."""
    preempted: list[tuple[Hashable, float]]
    """Which request was preempted, and when."""


def chart(run: Run) -> Chart:
    """Return a run as bars: between arrival and end, a request is in a pass or waits for one.

    Passes in which a request decodes one after the other make one bar; chunks of its prompt make one bar
    each. A pass after a request's last token is padding. Raises ValueError for an empty log.
    """
    if not run.steps:
        raise ValueError("there is no pass in the log; run the batcher first")
    taken: dict[Hashable, list[tuple[int, Bar]]] = defaultdict(list)
    for i, step in enumerate(run.steps):
        for part in step.parts:
            state = run.finished.get(part.request_id)
            over = state is not None and state.token_times and step.begin >= state.token_times[-1]
            kind: Kind = "padding" if over else "decode" if part.decode else "prefill"
            taken[part.request_id].append((i, Bar(kind, step.begin, step.end)))
    arrived = {name: state.arrived for name, state in run.finished.items()}
    arrived |= {name: bars[0][1].begin for name, bars in taken.items() if name not in arrived}
    zero = min(arrived.values())
    order = sorted(arrived, key=lambda name: arrived[name])
    bars = {name: _bars(taken[name], arrived[name]) for name in order}
    moved = {name: [Bar(b.kind, b.begin - zero, b.end - zero) for b in bars[name]] for name in order}
    gone = [(name, step.begin - zero) for step in run.steps for name in step.preempted]
    came = {name: [moment - zero for moment in state.token_times] for name, state in run.finished.items()}
    return Chart(moved, came, gone)


def draw_gantt(title: str, runs: Mapping[str, Run], unit: Literal["s", "ms"] = "s") -> Figure:
    """Return one chart per run, one above the other on the same time axis, under the runs' names.

    In an answer a white line ends each token's pass, unless there are too many passes for lines to be seen.
    """
    charts = {name: chart(run) for name, run in runs.items()}
    rows = sum(len(one.bars) for one in charts.values())
    height = 1.25 + 0.55 * len(charts) + 0.2 * rows
    fig = plots.figure_of_panels(title, height=height, left=0.09)
    sizes = [len(one.bars) for one in charts.values()]
    fig.subplots_adjust(bottom=0.95 / height, top=1 - 0.7 / height, left=0.09, right=0.965)
    grid = fig.add_gridspec(len(charts), 1, height_ratios=sizes, hspace=0.55 * len(sizes) / (0.2 * rows))
    axes = [fig.add_subplot(grid[i]) for i in range(len(charts))]
    scale = {"s": 1.0, "ms": 1e3}[unit]
    end = scale * max(bar.end for one in charts.values() for bars in one.bars.values() for bar in bars)
    for ax, (name, one) in zip(axes, charts.items(), strict=True):
        _draw(ax, one, scale, lines=all(len(run.steps) <= _MOST_LINES for run in runs.values()))
        ax.set_title(name, loc="left", fontsize=11, y=1.0)
        ax.set_xlim(0, 1.01 * end)
        ax.tick_params(labelbottom=ax is axes[-1])
    axes[-1].set_xlabel(f"time, {unit}", fontsize=11)
    _legend(fig, axes[-1], charts.values())
    return fig


def _bars(taken: list[tuple[int, Bar]], arrived: float) -> list[Bar]:
    """Return a request's numbered passes as bars; the time between passes is waiting."""
    bars: list[Bar] = []
    last = -1
    for number, bar in taken:
        follows = bool(bars) and number == last + 1
        if not follows and bar.begin > (since := bars[-1].end if bars else arrived):
            bars.append(Bar("waiting", since, bar.begin))
        if follows and bars[-1].kind == bar.kind != "prefill":
            bars[-1] = bars[-1]._replace(end=bar.end)
        else:
            bars.append(bar)
        last = number
    return bars


def _draw(ax: Axes, one: Chart, scale: float, lines: bool) -> None:
    """Draw a chart's bars and marks, the first request on top; `lines` asks for a line after each token."""
    for kind, look in _LOOKS.items():  # one artist for all bars of a kind: artists are slow
        boxes = [
            _corners(scale * bar.begin, scale * bar.end, row, _HEIGHTS[kind])
            for row, bars in enumerate(one.bars.values())
            for bar in bars
            if bar.kind == kind
        ]
        if boxes:
            ax.add_collection(PolyCollection(boxes, **look))
    rows = {name: row for row, name in enumerate(one.bars)}
    if lines and any(one.tokens.values()):
        half, gap = _HEIGHTS["decode"] / 2, float("nan")
        ends = [(scale * t, rows[name]) for name, moments in one.tokens.items() for t in moments]
        x = [t for t, _ in ends for _ in range(3)]
        y = [at for _, row in ends for at in (row - half, row + half, gap)]
        ax.plot(x, y, color="white", linewidth=0.7, solid_capstyle="butt")  # NaN makes gaps in one line
    for name, moment in one.preempted:
        ax.plot(scale * moment, rows[name], "X", color="black", markeredgecolor="white", markersize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [str(name) for name in one.bars], fontsize=8 if len(rows) > 6 else 10)
    ax.set_ylabel("request", fontsize=11)
    ax.grid(visible=True, axis="x", color="#DDDDDD", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _corners(begin: float, end: float, row: int, height: float) -> list[tuple[float, float]]:
    """Return the corners of a bar."""
    low, high = row - height / 2, row + height / 2
    return [(begin, low), (begin, high), (end, high), (end, low)]


def _legend(fig: Figure, ax: Axes, charts: Iterable[Chart]) -> None:
    """Draw one legend under all charts, of what the charts hold."""
    many = list(charts)
    all_bars = [bar for one in many for bars in one.bars.values() for bar in bars]
    visible = 0.003 * max(bar.end for bar in all_bars)
    kinds = {bar.kind for bar in all_bars if bar.end - bar.begin > visible}
    handles: list[Artist] = [Patch(label=_NAMES[k], **look) for k, look in _LOOKS.items() if k in kinds]
    if any(one.preempted for one in many):
        handles += ax.plot([], [], "X", color="black", markersize=8, label="preempted")
    options: dict[str, Any] = dict(loc="lower center", ncols=len(handles), bbox_transform=fig.transFigure)
    plots.legend(ax, handles=handles, bbox_to_anchor=(0.5, 0.0), **options)
