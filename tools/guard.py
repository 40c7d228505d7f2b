"""What a committed notebook must be: executed to the end, free of errors, of live widgets and of its author's machine."""

from __future__ import annotations

import re

from nbformat import NotebookNode
from nbval.plugin import comment_markers

from helpers.display import LISTING_COLUMNS
from tools.notebooks import WIDGET_VIEW

MOST_LINES = 20
MOST_COLUMNS = 100  # what fits beside the file browser on a 1280 pixel wide screen
# nbval compares nothing in a cell with one of these tags or comments; only the report of the versions may have one.
UNCOMPARED = {"nbval-ignore-output", "nbval-skip", "nbval-check-output"}
_MARKER = re.compile(rf"^\s*#\s*({'|'.join(comment_markers)})\s*$", re.MULTILINE | re.IGNORECASE)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_MACHINE_PATH = re.compile(r"(?<![\w/.])/(?:home|root|tmp|work|Users|private|usr|opt|var)/[\w.-]+")


def problems(notebook: NotebookNode) -> list[str]:
    """One sentence for each thing that is wrong, with the number of its cell; empty when all is well."""
    code = [(i, c) for i, c in enumerate(notebook.cells) if c.cell_type == "code" and c.source.strip()]
    counts = [cell.get("execution_count") for _, cell in code]
    found = []
    if counts != list(range(1, len(code) + 1)):
        found.append(f"was not executed from top to bottom in one go: execution counts {counts}")
    if not any(re.search(r"^(from|import) helpers\b", cell.source, re.MULTILINE) for _, cell in code):
        found.append("no cell imports helpers")
    if "widgets" in notebook.metadata:
        found.append("holds widget state")
    empty = [i for i, cell in enumerate(notebook.cells) if not cell.source.strip()]
    found += [f"cell {i}: empty" for i in empty]
    for i, cell in code:
        found += [f"cell {i}: {text}" for text in _cell_problems(cell)]
    return found


def _cell_problems(cell: NotebookNode) -> list[str]:
    """What is wrong with one code cell."""
    tags, found = set(cell.metadata.get("tags", [])), []
    marks = sorted(tags & UNCOMPARED) + _MARKER.findall(cell.source)
    if marks and "environment_report(" not in cell.source:
        found.append(f"its output is not compared ({', '.join(marks)})")
    if len(cell.source.splitlines()) > MOST_LINES:
        found.append(f"{len(cell.source.splitlines())} lines")
    wide = max(map(len, cell.source.splitlines()))
    if wide > MOST_COLUMNS:
        found.append(f"a line of {wide} characters")
    for output in cell.get("outputs", []):
        if output.output_type == "error" and "raises-exception" not in tags:
            found.append(f"an uncaught {output.ename}")
        if output.get("name") == "stderr":
            found.append(f"stderr: {output.text[:80]!r}")
        if WIDGET_VIEW in output.get("data", {}):
            found.append("a live widget, which shows an error without its kernel")
        if (longest := max(map(len, _listed(output)), default=0)) > LISTING_COLUMNS:
            found.append(f"a listing with a line of {longest} characters")
        if path := _MACHINE_PATH.search(_text_of(output)):
            found.append(f"a path of the machine it ran on: {path.group()}")
    return found


def _listed(output: NotebookNode) -> list[str]:
    """The lines of source code that an output lists."""
    blocks = re.findall(r"```python\n(.*?)```", output.get("data", {}).get("text/markdown", ""), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def _text_of(output: NotebookNode) -> str:
    """All text of an output, pictures left out."""
    texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
    texts += [output.get("evalue", ""), *output.get("traceback", [])]
    return _ANSI.sub("", re.sub(r"data:image/[^\"]*", "", "\n".join(map(str, texts))))
