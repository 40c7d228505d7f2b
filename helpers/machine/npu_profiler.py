"""torch_npu's own profiler: what ran on the device, for how long, and which of its units were busy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch_npu
from torch_npu.profiler import AiCMetrics, ProfilerLevel


@contextmanager
def npu_trace(folder: Path) -> Iterator[None]:
    """Profile a block, host and device, into `folder`, for TensorBoard and MindStudio Insight.

    Level 1 is asked for: at level 0, the default, the profiler leaves out how busy a core's pipes were.
    """
    how = torch_npu.profiler._ExperimentalConfig(
        profiler_level=ProfilerLevel.Level1, aic_metrics=AiCMetrics.PipeUtilization
    )
    ready = torch_npu.profiler.tensorboard_trace_handler(str(folder))
    # Unless told otherwise, the profiler records all activities that it supports.
    with torch_npu.profiler.profile(on_trace_ready=ready, experimental_config=how):
        yield
