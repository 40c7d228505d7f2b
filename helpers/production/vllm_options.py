"""Options of vLLM that chapters name; on_ascend says what vLLM-Ascend makes of them."""

from __future__ import annotations

from helpers.production.opened import ASCEND_MAIN, ASCEND_RELEASE, EARLIER, READ, ascend, new_vllm, vllm
from helpers.production.option import Option
from helpers.production.source import Source

_CACHE, _SCHEDULER, _ARGUMENTS = "config/cache.py", "config/scheduler.py", "engine/arg_utils.py"
_PLATFORM, _UTILS = "vllm_ascend/platform.py", "vllm_ascend/utils.py"
_EXTERNAL = "docs/source/user_guide/feature_guide/external_dp.md"
_DISAGGREGATED = "docs/source/tutorials/features/pd_disaggregation_mooncake_multi_node.md"
_REPLICAS = (
    *vllm("config/parallel.py", _ARGUMENTS),
    Source("vLLM", "main 01e4fce074", "docs/serving/data_parallel_deployment.md", READ),
)

MEMORY = (
    Option(
        "--gpu-memory-utilization", "flag", "share of the device's memory that the engine uses at all",
        "0.92", EARLIER, None, vllm(_CACHE) + ascend("vllm_ascend/worker/worker.py"),
    ),
    Option(
        "--max-model-len", "flag", "positions that one request may fill, prompt and answer",
        "the model's own", EARLIER, None, vllm("config/model.py"),
    ),
    Option(
        "--kv-cache-dtype", "flag", "type of a number in the KV cache",
        "auto (the model's type)", EARLIER, None,
        vllm(_CACHE) + ascend("vllm_ascend/quantization/modelslim_config.py", "docs/source/user_guide"),
        on_ascend="in no document; an int8 cache comes with a checkpoint of ModelSlim",
    ),
    Option(
        "--quantization", "flag", "format of the weights", "what the checkpoint says", EARLIER, None,
        vllm("config/model.py") + ascend("docs/source/user_guide/feature_guide/quantization.md"),
        values=("ascend",), on_ascend="`ascend` for a checkpoint of ModelSlim",
    ),
    Option(
        "--block-size", "flag", "tokens of a page, which vLLM calls a block", "16", EARLIER, None,
        vllm(_CACHE) + ascend(_UTILS),
        on_ascend="128, whatever is asked, while prefix caching or chunked prefill is on; "
        "DeepSeek V4 takes 32, 64 or 128, hybrid models size themselves",
    ),
)  # fmt: skip

PREFIXES = (
    Option(
        "--no-enable-prefix-caching", "flag", "turns the reuse of prefixes off",
        "reuse is on", EARLIER, None, vllm(_CACHE, _ARGUMENTS),
    ),
    Option(
        "--prefix-caching-hash-algo", "flag", "hash by which a block is found", "sha256", EARLIER, None,
        vllm(_CACHE),
    ),
    Option(
        "--kv-transfer-config", "flag", "connector to other engines and to stores of keys and values",
        "none", EARLIER, None,
        vllm("config/kv_transfer.py", _ARGUMENTS) + ascend("docs/source/user_guide/feature_guide/kv_pool.md"),
        values=("AscendStoreConnector", "MooncakeConnectorV1"),
        on_ascend="AscendStoreConnector for a store, MooncakeConnectorV1 between prefill and decode nodes",
    ),
)  # fmt: skip

SCHEDULING = (
    Option(
        "--max-num-seqs", "flag", "requests that run at once: the seats",
        "256; 1024 from 70 GiB of device memory", EARLIER, None, vllm(_ARGUMENTS),
    ),
    Option(
        "--max-num-batched-tokens", "flag", "tokens of one pass: the token budget",
        "2048 for a server; 8192 from 70 GiB of device memory", EARLIER, None, vllm(_ARGUMENTS),
    ),
    Option(
        "--enable-chunked-prefill", "flag", "allows prompts to be cut", "on", EARLIER, None,
        vllm(_SCHEDULER, _ARGUMENTS),
    ),
    Option(
        "--long-prefill-token-threshold", "flag", "most tokens of one prompt in a pass: the chunk",
        "0 (no limit but the budget)", EARLIER, None, vllm(_SCHEDULER, "v1/core/sched/scheduler.py"),
    ),
    Option(
        "--scheduler-reserve-full-isl", "flag", "admits a request only where its whole prompt fits",
        "on", EARLIER, None, vllm(_SCHEDULER, "v1/core/kv_cache_manager.py"),
    ),
    Option(
        "--watermark", "flag", "share of the blocks that stays free when a request is admitted",
        "0 (off)", "0.33.0 or earlier, after 0.23.0", None, new_vllm(_SCHEDULER),
    ),
    Option(
        "--async-scheduling", "flag", "plans the next pass while this one runs",
        "on unless another option forbids it", EARLIER, None, vllm(_SCHEDULER, "config/vllm.py"),
    ),
    Option(
        "--scheduling-policy", "flag", "order of the waiting requests", "fcfs", EARLIER, None,
        vllm(_SCHEDULER, "v1/core/sched/scheduler.py"), values=("fcfs", "priority"),
    ),
    Option(
        "--goodput", "flag", "objectives that `vllm bench serve` counts requests against", "none", EARLIER, None,
        vllm("benchmarks/serve.py"), values=("ttft", "tpot", "e2el"),
    ),
)  # fmt: skip

PASSES = (
    Option(
        "--attention-backend", "flag", "implementation of attention", "chosen by the platform", EARLIER, None,
        vllm("config/attention.py")
        + ascend(_PLATFORM, versions=(ASCEND_RELEASE, "releases/v0.26.0rc cf0baa38df", ASCEND_MAIN)),
        values=("FLASH_ATTN",),
        on_ascend="always its own; up to releases/v0.26.0rc FLASH_ATTN was let through, main resets it too",
    ),
    Option(
        "--decode-context-parallel-size", "flag", "devices over which the keys of a decode step are cut",
        "1", EARLIER, None,
        vllm("config/parallel.py") + ascend("docs/source/user_guide/feature_guide/context_parallel.md"),
    ),
    Option(
        "--enforce-eager", "flag", "runs every pass without a graph", "off", EARLIER, None,
        vllm("config/model.py"),
    ),
    Option(
        "--compilation-config", "flag", "compiler and captured graphs, as JSON", "optimisation level 2", EARLIER, None,
        vllm("config/compilation.py", "config/vllm.py"),
    ),
    Option(
        "cudagraph_mode", "config key", "which passes are replayed as graphs; in --compilation-config",
        "FULL_AND_PIECEWISE", EARLIER, None,
        vllm("config/compilation.py", "config/vllm.py")
        + ascend("docs/source/user_guide/feature_guide/graph_mode.md"),
        values=("NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"),
        on_ascend="the same names, with NPU graphs",
    ),
    Option(
        "cudagraph_capture_sizes", "config key", "batch sizes that are captured; in --compilation-config",
        "1, 2, 4, then multiples of 8, from 256 on of 16, up to 512", EARLIER, None,
        vllm("config/compilation.py") + ascend("docs/source/user_guide/feature_guide/graph_mode.md"),
    ),
    Option(
        "--additional-config", "flag", "options of the platform, as JSON", "empty", EARLIER, None,
        vllm("config/vllm.py") + ascend("docs/source/user_guide/configuration/additional_config.md"),
    ),
)  # fmt: skip

REPLICAS = (
    Option(
        "--data-parallel-size", "flag", "engines behind one address, each with a queue and a KV cache of its own; with experts they compute together",
        "1", EARLIER, None, _REPLICAS + ascend(_DISAGGREGATED),
    ),
    Option(
        "--data-parallel-rank", "flag",
        "serves one of these engines at an address of its own, for a router in front; for models with experts",
        "none", EARLIER, None,
        _REPLICAS + ascend(_DISAGGREGATED) + ascend(_EXTERNAL, versions=(ASCEND_RELEASE,)),
    ),
    Option(
        "kv_role", "config key", "what an engine does with keys and values; in --kv-transfer-config", "none",
        EARLIER, None, ascend(_DISAGGREGATED),
        values=("kv_producer", "kv_consumer"),
    ),
)  # fmt: skip
