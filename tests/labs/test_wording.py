"""Requests, devices and data are no people: no text of the library or of a lab says "somebody" of them."""

import ast
import re

import pytest

from tests.remedies import nothing
from tools import notebooks as nbs

PEOPLE = re.compile(r"\b(?:any|every|no|some)body\b|\bwhoever\b", re.IGNORECASE)
FILES = sorted((nbs.ROOT / "helpers").rglob("*.py"))
LABS = [source for source in nbs.sources() if source.parent.parent.name == "solutions"]


def said(code):
    """The texts in code that speak of people; a single word is an option's value and not a text."""
    texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and " " in text and PEOPLE.search(text)]


def test_no_message_or_docstring_of_the_library_speaks_of_people():
    nothing(f"{path.relative_to(nbs.ROOT)}: {text}" for path in FILES for text in said(path.read_text()))


@pytest.mark.parametrize("source", LABS, ids=lambda path: path.stem)
def test_no_lab_speaks_of_people(source):
    cells = nbs.read_source(source).cells
    nothing(cell.source for cell in cells if PEOPLE.search(cell.source))


def test_such_a_text_is_found():
    assert said("x = 'Somebody else wrote.'; y = f'{x} and nobody runs'") == [
        "Somebody else wrote.",
        " and nobody runs",
    ]
    assert said("def f():\n    'Whoever ends.'") == ["Whoever ends."]
    assert said("x = 'nobody'; y = 'some body of text'") == []
