"""The facts about vLLM: all in both versions, and the ones on which chapters lean."""

import pytest

from helpers.production import OPTIONS, opened

ROWS = [fact for fact in OPTIONS.values() if "vLLM" in {source.project for source in fact.sources}]


@pytest.mark.parametrize("fact", ROWS, ids=lambda fact: fact.name)
def test_a_fact_that_is_old_was_read_in_the_oldest_version(fact):
    versions = {source.version for source in fact.sources if source.project == "vLLM"}
    assert opened.NEW_VLLM in versions
    assert (opened.OLD_VLLM in versions) == (fact.since == opened.EARLIER)
    assert {source.project for source in fact.sources} <= {"vLLM", "vLLM-Ascend"}


@pytest.mark.parametrize("fact", [fact for fact in ROWS if fact.on_ascend], ids=lambda fact: fact.name)
def test_what_an_npu_does_differently_was_read_at_vllm_ascend(fact):
    assert "vLLM-Ascend" in {source.project for source in fact.sources}


def test_every_flag_is_vllms():
    assert {fact.name for fact in OPTIONS.values() if fact.kind == "flag"} <= {fact.name for fact in ROWS}


def test_a_known_default_is_a_default():
    assert OPTIONS["--gpu-memory-utilization"].default == "0.92"
    assert OPTIONS["cudagraph_mode"].default in OPTIONS["cudagraph_mode"].values
