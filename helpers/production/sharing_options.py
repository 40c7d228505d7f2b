"""Options by which production engines share a model among devices."""

from __future__ import annotations

from helpers.production.opened import EARLIER, ascend, vllm
from helpers.production.option import Option

_PARALLEL, _ARGUMENTS = "config/parallel.py", "engine/arg_utils.py"
_PAGE = "docs/source/user_guide/configuration/additional_config.md"
_GUIDE = "docs/source/user_guide/feature_guide"

SHARING = (
    Option(
        "--tensor-parallel-size", "flag", "devices that share each layer", "1", EARLIER, None,
        vllm(_PARALLEL, _ARGUMENTS),
    ),
    Option(
        "--pipeline-parallel-size", "flag", "stages of a pipeline", "1", EARLIER, None,
        vllm(_PARALLEL, _ARGUMENTS) + ascend(f"{_GUIDE}/dynamic_chunk_pipeline_parallel.md"),
    ),
    Option(
        "VLLM_PP_LAYER_PARTITION", "environment variable", "layers of each stage, such as 19,11",
        "as even as layers divide, the last stage never with one more", EARLIER, None,
        vllm("envs.py", "distributed/utils.py"),
    ),
    Option(
        "--enable-expert-parallel", "flag", "gives each device whole experts instead of a part of each", "off", EARLIER,
        None, vllm(_PARALLEL, _ARGUMENTS) + ascend(f"{_GUIDE}/large_scale_ep.md"),
    ),
    Option(
        "eplb_config", "config key", "copies of busy experts, placed anew by their load", "empty",
        "0.23.0 or earlier", None, ascend(_PAGE, f"{_GUIDE}/expert_parallelism_load_balancer.md"),
    ),
    Option(
        "finegrained_tp_config", "config key",
        "other tensor-parallel sizes for head, embedding, output projection and MLP", "empty",
        "0.12.0rc1 (not in 0.11.0)", None, ascend(_PAGE, f"{_GUIDE}/Fine_grained_TP.md"),
    ),
    Option(
        "enable_reduce_sample", "config key", "sends each rank's best logits instead of all; an experiment",
        "off", "0.23.0 (not in 0.22.1rc1)", None, ascend(_PAGE),
    ),
)  # fmt: skip
