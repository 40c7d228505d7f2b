"""Chapters on the emulated NPU, executed by kernels beside the other tests, so that two cores are busy to the end.

Cells with the tag `skip-emulated` are left out: what they measure means nothing there, or is proven by a test of its own.
The chapters of WHOLE run from top to bottom.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from nbformat import NotebookNode

from tools import notebooks as nbs

WHOLE = ("00_start_here", "01_memory_math", "02_prefill_decode_profiling")
CHAPTERS = sorted(path.stem for path in (nbs.ROOT / "notebooks" / "src").glob("*.py"))
SKIPPED = "skip-emulated"
VARIABLES = {"COURSE_DEVICE": "emulated-npu", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "OMP_NUM_THREADS": "1"}

_kernels = ThreadPoolExecutor(max_workers=2)
_running: dict[str, Future[NotebookNode]] = {}


def start(chapters: Iterable[str]) -> None:
    """Queues chapters; those that run whole first, since they take longest."""
    for chapter in sorted(chapters, key=lambda name: (name not in WHOLE, name)):
        _running[chapter] = _kernels.submit(_execute, chapter)


def result(chapter: str) -> NotebookNode:
    """The executed chapter, waited for; raises what its execution raised."""
    return _running[chapter].result()


def cancel() -> None:
    """Drops what has not begun."""
    _kernels.shutdown(wait=False, cancel_futures=True)


def _execute(chapter: str) -> NotebookNode:
    """One chapter's source, run from top to bottom but for the cells that are left out."""
    path = nbs.ROOT / "notebooks" / "src" / f"{chapter}.py"
    notebook = nbs.read_source(path)
    notebook.cells = [cell for cell in notebook.cells if SKIPPED not in cell.metadata.get("tags", [])]
    return nbs.execute(notebook, path.parent.parent, variables=VARIABLES)
