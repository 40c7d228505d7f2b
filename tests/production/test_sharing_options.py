"""The facts about sharing a model: which are vLLM's, which are vLLM-Ascend's own."""

from helpers.production import OPTIONS

NAMES = {
    "--tensor-parallel-size": "vLLM",
    "--pipeline-parallel-size": "vLLM",
    "VLLM_PP_LAYER_PARTITION": "vLLM",
    "--data-parallel-size": "vLLM",
    "--enable-expert-parallel": "vLLM",
    "eplb_config": "vLLM-Ascend",
    "finegrained_tp_config": "vLLM-Ascend",
    "enable_reduce_sample": "vLLM-Ascend",
}


def test_every_fact_was_read_where_it_is_made():
    for name, project in NAMES.items():
        assert OPTIONS[name].sources[0].project == project


def test_nothing_is_shared_unless_asked():
    assert {OPTIONS[name].default for name in NAMES if name.endswith("-size")} == {"1"}
    assert {OPTIONS[name].default for name in NAMES if name.startswith(("--enable", "enable"))} == {"off"}
