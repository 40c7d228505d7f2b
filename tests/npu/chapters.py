"""Chapters on the emulated NPU.

Cells with the tag `skip-emulated` are left out: what they measure means nothing there, or is proven by a test of its own.
The chapters of WHOLE run from top to bottom.
"""

from __future__ import annotations

from nbformat import NotebookNode

from tools import notebooks as nbs

WHOLE = ("02_prefill_decode_profiling", "01_memory_math", "00_start_here")  # the longest first
CHAPTERS = sorted(path.stem for path in (nbs.ROOT / "notebooks" / "src").glob("*.py"))
# Activations are derived for the plain operators. In fp32, NPU attention also returns 64 bytes of statistics for each head
# and token, and every allocation is padded; chapter 1 says so.
CPU_ONLY = {"01_memory_math": ("every prediction within 10 %", "within 10 %")}
SKIPPED = "skip-emulated"
VARIABLES = {"COURSE_DEVICE": "emulated-npu", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "OMP_NUM_THREADS": "1"}


def run(chapter: str) -> None:
    """Runs a chapter, and asserts that it says where it ran and that no verdict in it is False but the CPU's own."""
    cells = [cell for cell in executed(chapter).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    text = "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)
    assert "emulated NPU as Ascend910B3 (times mean nothing)" in text
    assert "This ran on the emulated NPU: results are real torch_npu semantics, times mean nothing." in text
    verdicts = [line for line in text.splitlines() if ": False" in line]
    assert not [v for v in verdicts if not v.startswith(CPU_ONLY.get(chapter, "\0"))]


def executed(chapter: str) -> NotebookNode:
    """A chapter's source, run from top to bottom but for the cells that are left out; raises what its execution raised."""
    path = nbs.ROOT / "notebooks" / "src" / f"{chapter}.py"
    notebook = nbs.read_source(path)
    notebook.cells = [cell for cell in notebook.cells if SKIPPED not in cell.metadata.get("tags", [])]
    return nbs.execute(notebook, path.parent.parent, variables=VARIABLES)
