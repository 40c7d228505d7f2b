"""Chapters on the emulated NPU, executed by kernels beside the other tests: on two cores they take no time of their own."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from nbformat import NotebookNode

from tools import notebooks as nbs

CHAPTERS = ["00_start_here", "01_memory_math", "02_prefill_decode_profiling", "03_kv_cache", "04_prefix_reuse"]
VARIABLES = {"COURSE_DEVICE": "emulated-npu", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}

_kernels = ThreadPoolExecutor(max_workers=1)
_running: dict[str, Future[NotebookNode]] = {}


def start(chapters: Iterable[str]) -> None:
    """Queues chapters; the long ones first, since the tests ask for results last."""
    for chapter in sorted(chapters, reverse=True):
        _running[chapter] = _kernels.submit(_execute, chapter)


def result(chapter: str) -> NotebookNode:
    """The executed chapter, waited for; raises what its execution raised."""
    return _running[chapter].result()


def cancel() -> None:
    """Drops what has not begun."""
    _kernels.shutdown(wait=False, cancel_futures=True)


def _execute(chapter: str) -> NotebookNode:
    """One chapter's source, run from top to bottom."""
    path = nbs.ROOT / "notebooks" / "src" / f"{chapter}.py"
    return nbs.execute(nbs.read_source(path), path.parent.parent, variables=VARIABLES)
