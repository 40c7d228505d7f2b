"""Published traces, read from CSV: arrival, input tokens and output tokens of each request."""

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
"""Names of the columns for arrival, input tokens and output tokens. The first three are those of the Azure
LLM inference traces (Patel et al., arXiv:2311.18677). BurstGPT (Wang et al., arXiv:2401.17644) has the next
three; the last are plain."""


def load_csv(
    path: Path | str, columns: tuple[str, str, str] | None = None, limit: int | None = None
) -> Trace:
    """Return a published trace, read from a CSV file with a header line.

    One column each holds arrivals, input tokens and output tokens; `COLUMNS` has the known names. Arrivals
    are seconds, or dates and times, and are counted from the earliest. `limit`: only so many first lines are
    read. A line of 0 output tokens is kept. Raises ValueError for a line of 0 input tokens, for unknown
    columns, and for text that is not a number.
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
    """Return the names of the three columns. Raises ValueError for a header without such columns."""
    known = (wanted,) if wanted else COLUMNS
    for names in known:
        if set(names) <= set(header):
            return names
    expected = " or ".join(", ".join(names) for names in known)
    raise ValueError(f"expected the columns {expected}; the file has {', '.join(header)}")


def _seconds(text: str) -> float:
    """Return the seconds in a text, which is a number or a date and time."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
