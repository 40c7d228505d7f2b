"""Traces that others published, read from CSV: arrival, input tokens and output tokens of each request."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from helpers.traffic.trace import Arrival, Trace

COLUMNS = (
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    ("Timestamp", "Request tokens", "Response tokens"),
    ("arrival", "input_tokens", "output_tokens"),
)
"""Names of the columns for arrival, input and output tokens: in the Azure LLM inference traces (Patel et al., arXiv:2311.18677), in
BurstGPT (Wang et al., arXiv:2401.17644), and plain ones."""


def load_csv(
    path: Path | str, columns: tuple[str, str, str] | None = None, limit: int | None = None
) -> Trace:
    """Read a published trace: a CSV file with a head and a column each for arrival, input and output tokens (names: `COLUMNS`).

    Arrivals are seconds, or dates and times, and are counted from the earliest. A row of 0 output tokens is kept; one of 0 input
    tokens raises ValueError, as do unknown columns and what is no number. `limit` takes the first rows only.
    """
    read: list[tuple[float, Arrival]] = []
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        names = _columns(rows.fieldnames or (), columns)
        for number, row in enumerate(rows, 2):
            if limit is not None and len(read) >= limit:
                break
            try:
                at, prompt, answer = (row[name] for name in names)
                read.append((_seconds(at), Arrival(0.0, int(prompt), int(answer))))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    read.sort(key=lambda pair: pair[0])
    return Trace([replace(arrival, at=at - read[0][0]) for at, arrival in read], Path(path).stem)


def _columns(header: Sequence[str], wanted: tuple[str, str, str] | None) -> tuple[str, str, str]:
    """Return the names of the three columns that are there."""
    known = (wanted,) if wanted else COLUMNS
    for names in known:
        if set(names) <= set(header):
            return names
    expected = " or ".join(", ".join(names) for names in known)
    raise ValueError(f"expected the columns {expected}; the file has {', '.join(header)}")


def _seconds(text: str) -> float:
    """Return seconds: a number as it is, a date and time since 1970."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
