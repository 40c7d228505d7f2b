"""torch_npu's own profiler: what ran on the device, for how long, and which of its units were busy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch_npu


@contextmanager
def npu_trace(folder: Path) -> Iterator[None]:
    """Profiles a block, host and device, into `folder`, in the form that TensorBoard and MindStudio Insight read."""
    ready = torch_npu.profiler.tensorboard_trace_handler(str(folder))
    with torch_npu.profiler.profile(
        on_trace_ready=ready
    ):  # all activities that it supports, unless told otherwise
        yield
