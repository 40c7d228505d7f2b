"""Listings break where Python may break, and say what they said before."""

import ast
import inspect

import pytest

from helpers.display.wrapping import COLUMNS, wrapped
from tools.notebooks import ROOT

FILES = sorted(
    path
    for path in (ROOT / "helpers").rglob("*.py")
    if "checks" not in path.parts and "emulated_npu" not in path.parts
)


def listings(path):
    """All functions and classes of a file, each as `show_source` reads it."""
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            yield inspect.cleandoc("\n" + "\n".join(lines[first - 1 : node.end_lineno]))


def letters(text):
    """A source's letters, sorted: a comment may move, and a formatted string may become two."""
    return sorted(char for char in text if char.isalnum() and char not in "fr")


@pytest.mark.parametrize("package", sorted({path.parent for path in FILES}), ids=lambda path: path.name)
def test_what_the_library_lists_fits_and_says_the_same(package):
    for path in (path for path in FILES if path.parent == package):
        for text in listings(path):
            shown = wrapped(text)
            long = [line for line in shown.splitlines() if len(line) > COLUMNS]
            assert not long or _is_one_thing(long[0]), long
            assert ast.dump(ast.parse(undocumented(shown))) == ast.dump(ast.parse(undocumented(text)))
            assert letters(shown) == letters(text), path


def _is_one_thing(line):
    """Whether a long line has no good place to break: assignments in a chain, a string with values, one long name."""
    return line.count(" = ") > 2 or line.strip().startswith(("'", '"', "f'", 'f"')) or line.endswith("(")


def undocumented(text):
    """A source without the strings that are statements of their own: docstrings, and texts under attributes."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        constant = getattr(node, "value", None) if isinstance(node, ast.Expr) else None
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
            constant.value = ""
    return ast.unparse(tree)


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


def test_a_docstring_is_filled_anew_where_it_is_too_long_and_its_lists_stay():
    text = '''def f():
    """Return a thing of several words.

    - one item
    - another item

    Raises ValueError for all that
    is wrong.
    """
'''.rstrip()
    assert wrapped(text, 28).splitlines() == [
        "def f():",
        '    """Return a thing of',
        '    several words.',
        "",
        "    - one item",
        "    - another item",
        "",
        "    Raises ValueError for",
        "    all that is wrong.",
        '    """',
    ]  # fmt: skip


def test_what_fits_or_is_no_python_stays_as_it_is():
    text = "x = [1,\n     2]"
    assert wrapped(text) == text
    assert wrapped("def f(:" + " x" * 60) == "def f(:" + " x" * 60
