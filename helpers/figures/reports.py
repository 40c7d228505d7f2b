"""Reports side by side, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.display.readings import measured
from helpers.display.tables import Table
from helpers.traffic.report import Metric, Objective, Report

COLUMNS = (
    "requests/s", "tok/s", "TTFT p50", "TTFT p90", "TTFT p99", "TPOT p50", "TPOT p99", "end to end p50",
    "end to end p99", "worst wait", "in objective", "fairness", "preempted", "at work",
)  # fmt: skip
"""Columns that `comparison` can show, in this order."""


def comparison(
    reports: Mapping[str, Report],
    objective: Objective | None = None,
    real: bool = False,
    columns: Sequence[str] = COLUMNS,
    caption: str | None = None,
) -> Table:
    """Return a table with a line for each report, and the columns of `COLUMNS` that are asked for.

    `real` says that the times come from a real clock: such times are marked as measured. Otherwise the times
    are those of a simulation. Without an objective there is no column for objectives. Raises ValueError for a
    column that is not in `COLUMNS`.
    """
    unknown = set(columns) - set(COLUMNS)
    if unknown:
        raise ValueError(f"unknown columns {sorted(unknown)}; known are {', '.join(COLUMNS)}")
    shown = [name for name in columns if objective is not None or name != "in objective"]
    rows = []
    for name, report in reports.items():
        cells = dict(zip(COLUMNS, _row(report, objective, real), strict=True))
        rows.append([name, *(cells[column] for column in shown)])
    return Table(["", *shown], rows, caption)


def seconds_text(seconds: float) -> str:
    """Return a modelled time to three digits, in s or ms."""
    return f"{_digits(seconds)} s" if seconds >= 1 else f"{_digits(1e3 * seconds)} ms"


def _digits(value: float) -> str:
    """Return a number to three digits; the whole part is always given in full."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _row(report: Report, objective: Objective | None, real: bool) -> list[str]:
    """Return a report's cells."""

    def time(seconds: float) -> str:
        return measured(seconds) if real else seconds_text(seconds)

    def rate(value: float, unit: str) -> str:
        return measured(value, unit) if real else _digits(value)

    def share(value: float) -> str:
        return measured(100 * value, "%") if real else f"{value:.0%}"

    percentiles: tuple[tuple[Metric, float], ...] = (
        ("ttft", 50),
        ("ttft", 90),
        ("ttft", 99),
        ("tpot", 50),
        ("tpot", 99),
        ("latency", 50),
        ("latency", 99),
    )
    served = sum(outcome.served for outcome in report.outcomes)
    return [
        rate(served / report.seconds if report.seconds else 0.0, "req/s"),
        rate(report.throughput, "tok/s"),
        *(time(report.percentile(metric, percent)) for metric, percent in percentiles),
        time(report.worst_wait),
        share(report.attainment(objective)) if objective is not None else "",
        measured(report.fairness, "x") if real else f"{report.fairness:.2f}",
        f"{report.preemptions}",
        share(report.utilisation),
    ]
