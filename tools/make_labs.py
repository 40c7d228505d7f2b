"""Makes labs/*.ipynb from solutions/*.ipynb with nbgrader's own steps: `python tools/make_labs.py [--check]`.

The solution regions are replaced by stubs, hidden tests and outputs removed, check cells locked. `--check` writes nothing
and fails when a lab is not what its solution gives.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

try:
    from nbgrader.preprocessors import (
        ClearHiddenTests,
        ClearOutput,
        ClearSolutions,
        ComputeChecksums,
        LockCells,
    )
except ModuleNotFoundError:
    raise SystemExit("labs are made with nbgrader: pip install -e '.[teach]' -c constraints.txt") from None
from traitlets.config import Config, PyFileConfigLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs

STEPS = (LockCells, ClearSolutions, ClearOutput, ClearHiddenTests, ComputeChecksums)


def settings() -> Config:
    """The settings of `tools/nbgrader_config.py`."""
    return PyFileConfigLoader("nbgrader_config.py", path=str(nbs.ROOT / "tools")).load_config()


def make(solution: Path) -> str:
    """The lab that a solution gives, as the text of its file."""
    notebook: NotebookNode = nbs.read(solution)
    config, resources = settings(), {}
    for step in STEPS:
        notebook, resources = step(config=config).preprocess(notebook, resources)
    return nbformat.writes(notebook) + "\n"


def lab_of(solution: Path) -> Path:
    """Where a solution's lab is."""
    return solution.parent.parent / "labs" / solution.name


def stale(root: Path = nbs.ROOT) -> list[str]:
    """One sentence for each lab that is missing, out of date, or without a solution."""
    solutions = sorted((root / "solutions").glob("*.ipynb"))
    found = [
        f"labs/{path.name} is not what its solution gives; run: python tools/make_labs.py"
        for path in solutions
        if not lab_of(path).exists() or lab_of(path).read_text() != make(path)
    ]
    known = {path.name for path in solutions}
    return found + [
        f"labs/{p.name} has no solution" for p in (root / "labs").glob("*.ipynb") if p.name not in known
    ]


def main(arguments: list[str]) -> int:
    """The command."""
    if arguments == ["--check"]:
        found = stale()
        print("\n".join(found) if found else "the labs are what their solutions give")
        return 1 if found else 0
    for solution in sorted((nbs.ROOT / "solutions").glob("*.ipynb")):
        lab_of(solution).parent.mkdir(exist_ok=True)
        lab_of(solution).write_text(make(solution))
        print(lab_of(solution).relative_to(nbs.ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
