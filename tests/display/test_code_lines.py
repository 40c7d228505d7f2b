"""A long line of code breaks at brackets, commas and operators."""

import pytest

from helpers.display import wrapped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_value = first(a) + second(b)", "a_value = (\n    first(a) + second(b)\n)"),
        ("value = function(first, second)", "value = function(\n    first, second\n)"),
        ("x = [a_name for a_name in names]", "x = [\n    a_name\n    for a_name in names\n]"),
        ("total = 1  # why this is one", "# why this is one\ntotal = 1"),
        ("assert one and another and third", "assert (\n    one\n    and another\n    and third\n)"),
        ("# a comment of several words", "# a comment of several\n# words"),
        ("raise E('several words in it')", "raise E(\n    'several words in '\n    'it'\n)"),
        ("a_very_long_name_without_break", "a_very_long_name_without_break"),
        ("x = 'a_long_string_without_one'", "x = (\n    'a_long_string_without_one'\n)"),
    ],
)
def test_lines_break_at_brackets_commas_operators_and_words(text, shown):
    assert wrapped(text, 24) == shown
