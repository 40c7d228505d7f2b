"""The facts about environment variables."""

from helpers.production import OPTIONS


def test_every_name_in_capitals_is_a_variable_and_none_is_the_courses():
    capitals = {fact.name for fact in OPTIONS.values() if fact.name.isupper()}
    assert capitals == {fact.name for fact in OPTIONS.values() if fact.kind == "environment variable"}
    assert len(capitals) > 2
    assert not [name for name in capitals if name.startswith("COURSE_")]
