"""Says whether every notebook holds its source's text: `python tools/in_sync.py`; exit status 1 and a diff where not.

A notebook is as old as the text that it holds: git keeps no times of files, so that the texts are compared. Numbers in the
prose that no cell shows any more are said as well (`tools/prose_numbers.py`).
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import jupytext

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs
from tools import prose_numbers

MOST_LINES = 40  # of a difference; more would push the remedies off the screen


def problems(root: Path = nbs.ROOT) -> list[str]:
    """One text for each notebook that is missing, has no source, or is older than its source; its first line is the remedy."""
    found = []
    for source in nbs.sources(root):
        notebook = nbs.notebook_of(source)
        if not notebook.exists():
            found.append(f"{source.relative_to(root)} has no notebook; run: {remedy(source)}")
        elif difference := diff(source, notebook):
            found.append(f"{older(source)}\n{_shortened(difference)}")
    for notebook in nbs.notebooks(root):
        if not nbs.source_of(notebook).exists():
            found.append(f"{notebook.relative_to(root)} has no source in {notebook.parent.name}/src")
    return found


def older(source: Path) -> str:
    """One sentence that says that a source's notebook is older than its source, and what to run."""
    folder = source.parent.parent.name
    return f"{folder}/{source.stem} is out of sync: it is older than its source; run: {remedy(source)}"


def remedy(source: Path) -> str:
    """The commands that make a source's notebook, and the lab that a solution gives."""
    folder = source.parent.parent.name
    labs = " && python tools/make_labs.py" if folder == "solutions" else ""
    return f"python tools/refresh.py {folder}/{source.stem}{labs}"


def diff(source: Path, notebook: Path) -> str:
    """The unified diff between a source and its notebook's text; empty when they agree."""
    held, wanted = nbs.read(notebook), nbs.read_source(source)
    lines = [jupytext.writes(nb, fmt="py:percent").splitlines(keepends=True) for nb in (held, wanted)]
    if lines[0] == lines[1]:
        lines = [[f"release {nb.metadata.get('course', {}).get('release')}\n"] for nb in (held, wanted)]
    return "".join(difflib.unified_diff(*lines, str(notebook.name), str(source.name)))


def _shortened(difference: str) -> str:
    """The first lines of a difference, and how many there are more."""
    lines = difference.rstrip("\n").split("\n")
    more = [f"... and {len(lines) - MOST_LINES} lines more"] if len(lines) > MOST_LINES else []
    return "\n".join([*lines[:MOST_LINES], *more])


def main() -> int:
    """The command."""
    found = [*problems(), *prose_numbers.problems()]
    print("\n".join(found) if found else f"{len(nbs.sources())} notebooks are in sync with their sources")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
