"""The facts about vLLM-Ascend's own keys."""

from helpers.production import OPTIONS, opened

ROWS = [
    fact
    for fact in OPTIONS.values()
    if fact.kind == "config key" and {source.project for source in fact.sources} == {"vLLM-Ascend"}
]


def test_a_living_key_was_read_on_the_development_branch():
    for fact in ROWS:
        versions = {source.version for source in fact.sources}
        assert (opened.ASCEND_MAIN in versions) == (fact.until is None), fact.name


def test_the_removed_scheduler_ends_before_the_keys_of_the_new_ones_begin():
    assert len(ROWS) > 8
    ended = [fact for fact in ROWS if fact.until]
    assert [(fact.name, fact.until) for fact in ended] == [("ascend_scheduler_config", "0.11.0")]
    assert "0.12.0rc1" in {source.version for source in ended[0].sources}
