"""Listings break where Python may break, and say what they said before."""

import ast
import inspect

import pytest

from helpers.display import LISTING_COLUMNS, wrapped
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


def too_long(text):
    """The lines of a listing that do not fit."""
    return [line for line in text.splitlines() if len(line) > LISTING_COLUMNS]


@pytest.mark.parametrize("package", sorted({path.parent for path in FILES}), ids=lambda path: path.name)
def test_what_the_library_lists_fits_and_says_the_same(package):
    before, after = [], []
    for path in (path for path in FILES if path.parent == package):
        for text in listings(path):
            shown = wrapped(text)
            before, after = before + too_long(text), after + too_long(shown)
            assert undocumented(shown) == undocumented(text)
            assert letters(shown) == letters(text), path
    # A chain of assignments, and a long string without a space, have no place to break.
    assert len(after) <= len(before) / 15, after


def undocumented(text):
    """A source without the strings that are statements of their own: docstrings, and texts under attributes."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        constant = getattr(node, "value", None) if isinstance(node, ast.Expr) else None
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
            constant.value = ""
    return ast.unparse(tree)


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
