"""Small tables that read well in a notebook, as plain text, and in a comparison."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Text takes the page's colour, so that the table follows JupyterLab's light and dark themes.
_TABLE = "border-collapse: collapse; margin: 0.5em 0; font-size: 1em; color: inherit;"
_CELL = "padding: 0.25em 0.8em; border-bottom: 1px solid rgba(128, 128, 128, 0.35); vertical-align: top;"
# Every measured number counts as this wide, so that the plain text around it is the same in every run.
_MEASURED, _MEASURED_WIDTH = re.compile(r"measured \d\S* \S+"), len("measured 12345 GFLOP/s")
_ALL_MEASURED = re.compile(r"measured (\S+ \S+)")
_CAPTION = "caption-side: top; text-align: left; font-weight: bold; padding: 0.25em 0; color: inherit;"


@dataclass(frozen=True)
class Table:
    """Rows under headers, with a caption above if there is one.

    A column is aligned to the right when all its cells are numbers; a dash or a question mark counts as one.
    Where all cells of a column were measured, HTML says so once, in the column's head, so that the cells stay
    narrow.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a row that has not one cell for each header; the message names the row."""
        for i, row in enumerate(self.rows):
            if len(row) != len(self.headers):
                raise ValueError(f"row {i} has {len(row)} cells, the table has {len(self.headers)} columns")

    def __repr__(self) -> str:
        """Return the table as aligned plain text."""
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
        """Return the table as HTML for a notebook; every text is escaped.

        `tests/sanitize.cfg` knows a cell without the word "measured" by its class.
        """
        caption = f'<caption style="{_CAPTION}">{html.escape(self.caption)}</caption>' if self.caption else ""
        measured = self._measured() if any(self.headers) else [False] * len(self.headers)
        heads = [_marked(str(h)) if m else h for h, m in zip(self.headers, measured, strict=True)]
        head = self._line(heads, "th", [False] * len(heads)) if any(self.headers) else ""
        body = "\n".join(self._line(row, "td", measured) for row in self._cells())
        return f'<table style="{_TABLE}">{caption}\n{head}\n{body}\n</table>'

    def _line(self, cells: Sequence[str], tag: str, measured: Sequence[bool]) -> str:
        """Return one row as HTML; `tag` is `th` or `td`; `measured` says in which columns the word is left out."""
        parts = []
        for cell, right, short in zip(cells, self._right(), measured, strict=True):
            look = f'style="{_CELL} text-align: {"right" if right else "left"};"'
            found = _ALL_MEASURED.fullmatch(str(cell)) if short else None
            mark, text = ('class="measured" ', found[1]) if found else ("", str(cell))
            parts.append(f"<{tag} {mark}{look}>{html.escape(text)}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    def _cells(self) -> list[list[str]]:
        """Return all cells as text, row by row."""
        return [[str(cell) for cell in row] for row in self.rows]

    def _measured(self) -> list[bool]:
        """Return for each column whether all its cells were measured; an empty one or a dash may be among them."""
        columns = zip(*self._cells(), strict=True) if self.rows else [()] * len(self.headers)
        return [_is_measured([cell for cell in column if cell not in ("", "-", "?")]) for column in columns]

    def _right(self) -> list[bool]:
        """Return for each column whether all its cells are numbers."""
        columns = zip(*self._cells(), strict=True) if self.rows else [()] * len(self.headers)
        return [bool(column) and all(_is_number(cell) for cell in column) for column in columns]


def _is_measured(cells: Sequence[str]) -> bool:
    """Return whether there are cells, each of them one measured number."""
    return bool(cells) and all(_ALL_MEASURED.fullmatch(cell) for cell in cells)


def _marked(header: str) -> str:
    """Return a column's head with the word "measured"."""
    return header if "measured" in header else f"{header}, measured" if header else "measured"


def _width(cell: str) -> int:
    """Return the number of characters that a cell takes in plain text."""
    return len(_MEASURED.sub(" " * _MEASURED_WIDTH, cell))


def _is_number(cell: str) -> bool:
    """Return whether a cell is a number, with or without the word "measured", a sign and a unit.

    A dash and a question mark, which stand for a missing number, count as numbers.
    """
    text = cell.removeprefix("measured ")
    return text in ("-", "?") or text.lstrip("+-")[:1].isdigit()
