"""Sources and notebooks: where they are, how one becomes the other, and what makes two outputs equal."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbval.plugin import get_sanitize_patterns

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("notebooks", "solutions")
_UNSEEN = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS).*?### END \1", re.DOTALL)
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError)  # what `execute` raises
# What a notebook says of its kernel: nothing that differs from machine to machine.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources(root: Path = ROOT) -> list[Path]:
    """All text sources, in order."""
    return [path for folder in FOLDERS for path in sorted((root / folder / "src").glob("*.py"))]


def notebooks(root: Path = ROOT) -> list[Path]:
    """All executed notebooks, in order."""
    return [path for folder in FOLDERS for path in sorted((root / folder).glob("*.ipynb"))]


def notebook_of(source: Path) -> Path:
    """Where a source's notebook is."""
    return source.parent.parent / f"{source.stem}.ipynb"


def source_of(notebook: Path) -> Path:
    """Where a notebook's source is."""
    return notebook.parent / "src" / f"{notebook.stem}.py"


def read_source(path: Path) -> NotebookNode:
    """The source as a notebook without outputs; each cell's id follows from its text, so that it stays the same."""
    notebook = jupytext.read(path)
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        cell.id = f"{digest}-{seen[digest]}"
        seen[digest] += 1
    notebook.metadata = nbformat.from_dict({**METADATA, "jupytext": notebook.metadata["jupytext"]})
    if path.parent.parent.name == "solutions":
        notebook.metadata.course = {"release": release(notebook)}
    return notebook


def release(notebook: NotebookNode) -> str:
    """Return a short hash of what a learner sees of a solution: its texts and code, answers and hidden tests left out.

    A lab carries the hash in its metadata, and so does each submission: an older one is known by it.
    """
    seen = [[cell.cell_type, _UNSEEN.sub("", cell.source), _graded(cell)] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:12]


def _graded(cell: NotebookNode) -> list[object]:
    """Return a cell's name and points for nbgrader, if it has any."""
    about = cell.metadata.get("nbgrader", {})
    return [about.get("grade_id"), about.get("points")]


def read(path: Path) -> NotebookNode:
    """A notebook from disk."""
    return nbformat.read(path, as_version=4)


def execute(
    notebook: NotebookNode,
    folder: Path,
    timeout: int = 600,
    variables: Mapping[str, str] | None = None,
    log: Callable[[str], None] | None = None,
) -> NotebookNode:
    """Runs all cells in `folder` with this interpreter's kernel; raises one of FAILURES when one fails.

    `variables` are added to the kernel's environment. `log` is given a text when a cell begins and one when it ends.
    """
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that it talks to us over plain TCP
    )
    if log:
        follow(client, log)
    return client.execute(env={**os.environ, **(variables or {})})


def follow(client: NotebookClient, log: Callable[[str], None]) -> None:
    """Have a client tell `log` of each code cell: its number and first line when it begins, its time when it ends."""
    start, count = 0.0, sum(cell.cell_type == "code" for cell in client.nb.cells)
    number = 0

    def begins(cell: NotebookNode, cell_index: int) -> None:
        nonlocal start, number
        start, number = time.perf_counter(), number + 1
        line = next((line for line in cell.source.splitlines() if line.strip()), "")
        log(f"  {number:2} of {count}  {line if len(line) <= 70 else line[:67] + '...'}")

    def ends(**_: object) -> None:
        log(f"  {time.perf_counter() - start:.1f} s\n")

    client.on_cell_execute, client.on_cell_executed = begins, ends


def tidy(notebook: NotebookNode) -> None:
    """Leaves in an executed notebook nothing that depends on the machine, the moment or a running kernel.

    Live widgets go: without a kernel they show an error instead of their static copy. Of an expected error the message
    stays and the frames go, which hold paths and line numbers.
    """
    notebook.metadata.update(nbformat.from_dict(METADATA))  # the kernel has told the version of its Python
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
            if output.output_type == "error":
                output.traceback = [f"{output.ename}: {output.evalue}"]


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs with neighbouring pieces of a stream made one: where they break is a matter of time."""
    joined: list[NotebookNode] = []
    for output in outputs:
        stream = output.get("name")
        if stream and joined and joined[-1].get("name") == stream:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def sanitised(text: str, root: Path = ROOT) -> str:
    """`text` as nbval compares it: without what `tests/sanitize.cfg` hides."""
    for pattern, replacement in get_sanitize_patterns((root / "tests" / "sanitize.cfg").read_text()):
        text = re.sub(pattern, replacement, text)
    return text


def use_this_interpreter() -> None:
    """Makes kernels started here run in this interpreter's environment, also when it was not activated.

    A lab that is executed here is nobody's progress: its record goes to a folder of its own.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    os.environ["COURSE_STRICT_FIGURES"] = "1"  # a figure whose tick labels overlap is never stored
    os.environ["COURSE_DATA"] = tempfile.mkdtemp(prefix="course-data-")
    atexit.register(shutil.rmtree, os.environ["COURSE_DATA"], ignore_errors=True)
