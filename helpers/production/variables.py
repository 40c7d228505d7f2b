"""Environment variables of torch_npu, CANN and production engines that chapters and documents name."""

from __future__ import annotations

from helpers.production.opened import EARLIER, ascend, torch_npu
from helpers.production.option import Option

_FOLDER = "docs/zh/api/environment_variable"

VARIABLES = (
    Option(
        "PYTHONHASHSEED", "environment variable", "seed of Python's hash; one value on every node of a KV store",
        "random", "0.13.0", None, ascend("docs/source/user_guide/feature_guide/kv_pool.md"),
    ),
    Option(
        "ASCEND_RT_VISIBLE_DEVICES", "environment variable", "devices that a process sees, by number", "all",
        EARLIER, None, ascend("docs/source/tutorials/features/pd_disaggregation_mooncake_single_node.md"),
    ),
    Option(
        "ASCEND_LAUNCH_BLOCKING", "environment variable", "1: an operator ends before the program goes on",
        "0", "2026-08 or earlier", None, torch_npu(f"{_FOLDER}/op_execution/ASCEND_LAUNCH_BLOCKING.md"),
    ),
    Option(
        "TORCH_NPU_FALLBACK_CPU_DISABLE", "environment variable",
        "1: an operator that would be computed on the CPU raises an error", "0", "2026-08 or earlier", None,
        torch_npu(f"{_FOLDER}/op_execution/TORCH_NPU_FALLBACK_CPU_DISABLE.md"),
    ),
)  # fmt: skip
