"""Make labs/*.ipynb from solutions/*.ipynb with nbgrader's own steps: `python tools/make_labs.py [--check]`.

Solution regions are replaced by stubs, hidden tests and outputs are removed, check cells are locked.
`--check` writes nothing, and fails when a lab is not what its solution gives. A solution that is older than its source gives an
old lab: that is said, too.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from traitlets.config import Config, PyFileConfigLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import in_sync
from tools import notebooks as nbs

STEPS = ("LockCells", "ClearSolutions", "ClearOutput", "ClearHiddenTests", "ComputeChecksums")


class NoNbgraderError(RuntimeError):
    """nbgrader cannot be imported; the message says how it is installed."""


def steps() -> list[Any]:
    """Return the classes of nbgrader's preprocessors, in order.

    Raises `NoNbgraderError` where nbgrader is missing. To import this file is no error.
    """
    try:
        preprocessors = importlib.import_module("nbgrader.preprocessors")
    except ImportError as error:
        how = "pip install -e '.[teach]' -c constraints.txt"
        raise NoNbgraderError(f"labs are made with nbgrader, which cannot be imported: {how}") from error
    return [getattr(preprocessors, name) for name in STEPS]


def settings() -> Config:
    """Return the settings of `tools/nbgrader_config.py`."""
    return PyFileConfigLoader("nbgrader_config.py", path=str(nbs.ROOT / "tools")).load_config()


def make(solution: Path) -> str:
    """Return the lab that a solution gives, as the text of its file."""
    notebook: NotebookNode = nbs.read(solution)
    known = steps()  # first, because the settings need nbgrader, too
    config, resources = settings(), {}
    for step in known:
        notebook, resources = step(config=config).preprocess(notebook, resources)
    return nbformat.writes(notebook) + "\n"


def lab_of(solution: Path) -> Path:
    """Return where a solution's lab is."""
    return solution.parent.parent / "labs" / solution.name


def stale(root: Path = nbs.ROOT) -> list[str]:
    """Return one sentence for each lab that is missing, out of date, or without a solution."""
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


def old_solutions(root: Path = nbs.ROOT) -> list[str]:
    """Return one sentence for each solution that is older than its source, with what to run."""
    pairs = [(source, nbs.notebook_of(source)) for source in nbs.sources(root)]
    return [
        in_sync.older(source)
        for source, solution in pairs
        if solution.parent.name == "solutions" and solution.exists() and in_sync.diff(source, solution)
    ]


def write_all() -> None:
    """Write every lab, and print its name."""
    for solution in sorted((nbs.ROOT / "solutions").glob("*.ipynb")):
        lab_of(solution).parent.mkdir(exist_ok=True)
        lab_of(solution).write_text(make(solution))
        print(lab_of(solution).relative_to(nbs.ROOT))


def main(arguments: list[str]) -> int:
    """Carry the command out; return 1 where a lab or its solution is stale, or nbgrader is missing."""
    try:
        old = old_solutions()
        if arguments != ["--check"]:
            write_all()
            print("".join(f"warning: {text}\n" for text in old), end="", file=sys.stderr)
            return 0
        found = [*old, *stale()]
    except NoNbgraderError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(found) if found else "the labs are what their solutions give")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
