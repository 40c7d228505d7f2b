"""Keys of vLLM-Ascend's `--additional-config` that chapters name."""

from __future__ import annotations

from helpers.production.opened import ASCEND_MAIN, ascend
from helpers.production.option import Option

_RC24, _RC25 = "0.24.0rc1", "0.25.1rc1"
_PAGE = "docs/source/user_guide/configuration/additional_config.md"
_SHORT = "docs/source/user_guide/feature_guide/short_request_first.md"
_GRAPHS = "docs/source/user_guide/feature_guide/graph_mode.md"

SCHEDULERS = (
    Option(
        "ascend_scheduler_config", "config key", "vLLM-Ascend's own scheduler", "off", "0.9.1 or earlier", "0.11.0",
        ascend(_PAGE, "docs/source/user_guide/release_notes.md", versions=("0.11.0", "0.12.0rc1")),
    ),
    Option(
        "scheduler_config", "config key", "groups the schedulers' keys; before, they stood at the top level",
        "empty", _RC25, None, ascend(_PAGE, versions=(_RC24, _RC25, ASCEND_MAIN)),
    ),
    Option(
        "scheduler_config.short_request_first_config", "config key", "lets short prompts go first",
        "off", f"{_RC24} (on prefill nodes alone; anywhere from {_RC25})", None,
        ascend(_PAGE, versions=(_RC24, _RC25, ASCEND_MAIN)) + ascend(_SHORT, versions=(ASCEND_MAIN,)),
    ),
    Option(
        "scheduler_config.enable_balance_scheduling", "config key",
        "stops all data-parallel ranks from admitting as soon as one has no free seat",
        "off", "0.20.2rc1 (before: VLLM_ASCEND_BALANCE_SCHEDULING)", None, ascend(_PAGE),
    ),
    Option(
        "scheduler_config.batch_job_sched_config", "config key",
        "orders batch jobs by predicted lengths, longest first; no bound on waiting",
        "off", _RC25, None,
        ascend(_PAGE, "docs/source/user_guide/feature_guide/batch_job_aware_scheduler.md", versions=(ASCEND_MAIN,)),
    ),
    Option(
        "scheduler_config.profiling_chunk_config", "config key",
        "sizes chunks by measured times, for pipeline parallelism", "off", "0.19.1rc1", None, ascend(_PAGE),
    ),
    Option(
        "scheduler_config.recompute_scheduler_enable", "config key",
        "recomputes preempted requests on decode nodes of a disaggregated service", "off", "0.11.0", None,
        ascend(_PAGE),
    ),
    Option(
        "enabled", "config key", "turns a scheduler of scheduler_config on", "false", _RC24, None,
        ascend(_PAGE, versions=(_RC24, ASCEND_MAIN)),
    ),
    Option(
        "threshold", "config key", "tokens of the longest short prompt; in short_request_first_config", "256",
        _RC24, None, ascend(_PAGE, versions=(_RC24, ASCEND_MAIN)),
    ),
    Option(
        "long_max_wait_ms", "config key",
        "wait after which a long prompt goes first; in short_request_first_config",
        "0 (never)", _RC24, None, ascend(_PAGE, versions=(_RC24, ASCEND_MAIN)) + ascend(_SHORT, versions=(ASCEND_MAIN,)),
    ),
)  # fmt: skip

GRAPHS = (
    Option(
        "ascend_compilation_config.enable_npugraph_ex", "config key",
        "fuses operators before a graph is captured; works in FULL and FULL_DECODE_ONLY alone",
        "on", "0.12.0rc1", None, ascend(_PAGE, _GRAPHS),
    ),
)  # fmt: skip
