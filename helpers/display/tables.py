"""Small tables that read well in a notebook, as plain text, and in a comparison."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Colours are the page's own, so that the table follows JupyterLab's light and dark themes.
_TABLE = "border-collapse: collapse; margin: 0.5em 0; font-size: 1em; color: inherit;"
_CELL = "padding: 0.25em 0.8em; border-bottom: 1px solid rgba(128, 128, 128, 0.35); vertical-align: top;"
# Whatever a clock says takes this much room, so that the plain text around it is the same in every run.
_MEASURED, _MEASURED_WIDTH = re.compile(r"measured \d\S* \S+"), len("measured 12345 GFLOP/s")
_CAPTION = "caption-side: top; text-align: left; font-weight: bold; padding: 0.25em 0; color: inherit;"


@dataclass(frozen=True)
class Table:
    """Rows under headers. A column is aligned to the right when all its cells begin with a digit or a sign."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, naming it, for a row that has not one cell for each header."""
        for i, row in enumerate(self.rows):
            if len(row) != len(self.headers):
                raise ValueError(f"row {i} has {len(row)} cells, the table has {len(self.headers)} columns")

    def __repr__(self) -> str:
        """The table as aligned plain text."""
        lines = [list(map(str, self.headers)), *self._cells()]
        widths = [max(_width(line[j]) for line in lines) for j in range(len(self.headers))]
        padded = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, self._right(), strict=True)
            ).rstrip()
            for line in lines
        ]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([*([self.caption] if self.caption else []), padded[0], rule, *padded[1:]])

    def _repr_html_(self) -> str:
        """The table for a notebook; every text is escaped."""
        caption = f'<caption style="{_CAPTION}">{html.escape(self.caption)}</caption>' if self.caption else ""
        head = self._line(self.headers, "th") if any(self.headers) else ""
        body = "\n".join(self._line(row, "td") for row in self._cells())
        return f'<table style="{_TABLE}">{caption}\n{head}\n{body}\n</table>'

    def _line(self, cells: Sequence[str], tag: str) -> str:
        """One row of HTML."""
        parts = [
            f'<{tag} style="{_CELL} text-align: {"right" if right else "left"};">{html.escape(str(cell))}</{tag}>'
            for cell, right in zip(cells, self._right(), strict=True)
        ]
        return f"<tr>{''.join(parts)}</tr>"

    def _cells(self) -> list[list[str]]:
        """All cells as text."""
        return [[str(cell) for cell in row] for row in self.rows]

    def _right(self) -> list[bool]:
        """For each column, whether it holds numbers."""
        columns = zip(*self._cells(), strict=True) if self.rows else [()] * len(self.headers)
        return [bool(column) and all(_is_number(cell) for cell in column) for column in columns]


def _width(cell: str) -> int:
    """The characters that a cell takes in plain text."""
    return len(_MEASURED.sub(" " * _MEASURED_WIDTH, cell))


def _is_number(cell: str) -> bool:
    """Whether a cell reads as a number, with or without sign, unit or the mark of a measurement; a dash or ? fits in."""
    text = cell.removeprefix("measured ")
    return text in ("-", "?") or text.lstrip("+-")[:1].isdigit()
