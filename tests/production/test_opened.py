"""A file is opened in each version that it is quoted for."""

from helpers.production import opened


def test_a_file_of_vllm_is_two_sources_and_a_new_one_is_one():
    both = opened.vllm("envs.py")
    assert [source.version for source in both] == [opened.OLD_VLLM, opened.NEW_VLLM]
    assert opened.new_vllm("envs.py") == both[1:]
    assert both[0].file == "vllm/envs.py"


def test_a_file_of_vllm_ascend_is_read_in_the_versions_that_are_named():
    assert [source.version for source in opened.ascend("a.md")] == [opened.ASCEND_RELEASE, opened.ASCEND_MAIN]
    assert [source.version for source in opened.ascend("a.md", versions=("0.24.0rc1",))] == ["0.24.0rc1"]
    assert {source.project for source in opened.ascend("a.md") + opened.torch_npu("b.md")} == {
        "vLLM-Ascend",
        "torch_npu",
    }
