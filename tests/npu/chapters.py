"""Chapters on the emulated NPU.

Cells with the tag `skip-emulated` are left out: what they measure means nothing there, or is proven by a test of its own.
The chapters of WHOLE run from top to bottom.
"""

from __future__ import annotations

from nbformat import NotebookNode

from tools import notebooks as nbs

WHOLE = ("00_start_here", "01_memory_math", "02_prefill_decode_profiling")
CHAPTERS = sorted(path.stem for path in (nbs.ROOT / "notebooks" / "src").glob("*.py"))
SKIPPED = "skip-emulated"
VARIABLES = {"COURSE_DEVICE": "emulated-npu", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "OMP_NUM_THREADS": "1"}


def executed(chapter: str) -> NotebookNode:
    """A chapter's source, run from top to bottom but for the cells that are left out; raises what its execution raised."""
    path = nbs.ROOT / "notebooks" / "src" / f"{chapter}.py"
    notebook = nbs.read_source(path)
    notebook.cells = [cell for cell in notebook.cells if SKIPPED not in cell.metadata.get("tags", [])]
    return nbs.execute(notebook, path.parent.parent, variables=VARIABLES)
