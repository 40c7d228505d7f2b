"""Says whether every notebook holds its source's text: `python tools/in_sync.py`; exit status 1 and a diff where not."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import jupytext

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs


def problems(root: Path = nbs.ROOT) -> list[str]:
    """One text for each notebook that is missing, has no source, or differs from it."""
    found = []
    for source in nbs.sources(root):
        notebook = nbs.notebook_of(source)
        if not notebook.exists():
            found.append(
                f"{source.relative_to(root)} has no notebook; run: python tools/refresh.py {source.stem}"
            )
        elif difference := diff(source, notebook):
            found.append(
                f"{difference}{source.stem} is out of sync; run: python tools/refresh.py {source.stem}"
            )
    for notebook in nbs.notebooks(root):
        if not nbs.source_of(notebook).exists():
            found.append(f"{notebook.relative_to(root)} has no source in {notebook.parent.name}/src")
    return found


def diff(source: Path, notebook: Path) -> str:
    """The unified diff between a source and its notebook's text; empty when they agree."""
    stored = jupytext.writes(nbs.read(notebook), fmt="py:percent").splitlines(keepends=True)
    wanted = jupytext.writes(nbs.read_source(source), fmt="py:percent").splitlines(keepends=True)
    return "".join(difflib.unified_diff(stored, wanted, str(notebook.name), str(source.name)))


def main() -> int:
    """The command."""
    found = problems()
    print("\n".join(found) if found else f"{len(nbs.sources())} notebooks are in sync with their sources")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
