"""A fact has a form, all its fields, and a source."""

from dataclasses import replace
from datetime import date

import pytest

from helpers.production import Option, Source

READ = (Source("vLLM", "1.0", "vllm/envs.py", date(2026, 11, 29)),)
FACT = Option("--seats", "flag", "requests at once", "8", "1.0", None, READ)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "--seats has no source"),
        ({"name": "seats"}, "does not have the form of a flag"),
        ({"name": "--Seats"}, "does not have the form of a flag"),
        ({"name": "SEATS_", "kind": "config key"}, "does not have the form of a config key"),
        ({"kind": "switch"}, "unknown kind 'switch'; known are flag, config key, environment variable"),
        ({"sets": ""}, "--seats has no sets"),
        ({"default": ""}, "--seats has no default"),
        ({"since": ""}, "--seats has no since"),
    ],
)
def test_an_incomplete_fact_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(FACT, **change)


def test_versions_in_words():
    assert FACT.versions == "since 1.0"
    assert replace(FACT, until="1.4").versions == "1.0 to 1.4"
