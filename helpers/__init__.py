"""Working implementations behind the course on LLM inference optimisation for Ascend NPUs."""

import os

# With torch_npu installed and no CANN, `import torch` itself fails unless autoloading is off;
# `helpers.machine.device` imports torch_npu where an NPU is found or asked for.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
# torch's profiler writes a line to stderr at every start and stop; a reader takes them for errors.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
# Threads that wait for each other give their cores away: with a browser beside them, threads that spin make each
# product many times as slow. They spin for some microseconds first, because other threads are nearly done then, and
# to sleep and to wake takes longer. Read when OpenMP is loaded.
os.environ.update(
    {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "500", **os.environ}
    if os.environ.get("OMP_WAIT_POLICY", "passive") == "passive"
    else {}
)

from helpers.attention.flash_attention import FlashAttention
from helpers.caches.kv_cache import KVCache
from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.caches.prefix_cache import KVCacheReuse
from helpers.engine.batching import ContinuousBatcher
from helpers.engine.scheduling import RequestScheduler
from helpers.estimates.memory import MemoryCalculator
from helpers.measurements.profiling import InferenceProfiler

__all__ = [
    "ContinuousBatcher",
    "FlashAttention",
    "InferenceProfiler",
    "KVCache",
    "KVCacheReuse",
    "MemoryCalculator",
    "PagedKVCache",
    "RequestScheduler",
]
