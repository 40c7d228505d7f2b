"""A source names what was opened, or is refused."""

from datetime import date

import pytest

from helpers.production import Source

DAY = date(2026, 11, 29)


@pytest.mark.parametrize(
    ("words", "missing"),
    [(("", "1.0", "a.py"), "project"), (("vLLM", " ", "a.py"), "version"), (("vLLM", "1.0", ""), "file")],
)
def test_a_source_that_cannot_be_opened_again_is_refused(words, missing):
    with pytest.raises(ValueError, match=f"a source has no {missing}"):
        Source(*words, DAY)


def test_a_source_reads_as_a_phrase():
    assert str(Source("vLLM", "1.0", "vllm/envs.py", DAY)) == "vLLM 1.0: vllm/envs.py"
