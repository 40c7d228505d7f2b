"""The source that a notebook shows is the one on disk, under the name of its file."""

import inspect

import pytest

from helpers import ops
from helpers.display import LISTING_COLUMNS, Table, measured, show_kernel, show_source
from tests.display.test_wrapping import undocumented
from tools.notebooks import ROOT


def test_the_source_shown_is_the_source_on_disk():
    shown = show_source(Table.__repr__)
    assert repr(shown).startswith("# helpers/display/tables.py\ndef __repr__(self) -> str:\n    ")
    markdown = shown._repr_markdown_()
    assert markdown.startswith("`helpers/display/tables.py`\n\n```python\ndef __repr__(self) -> str:\n    ")
    assert markdown.endswith("\n```")
    assert "style=" not in markdown, "colours are the theme's"


@pytest.mark.parametrize("thing", [Table, Table.__repr__, measured, ops.swiglu, ops.attention_pages])
def test_the_file_that_is_named_holds_the_source(thing):
    shown = show_source(thing)
    assert shown.file.startswith("helpers/")
    source = inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(thing)))
    assert source.splitlines()[0] in (ROOT / shown.file).read_text()
    assert undocumented(shown.text) == undocumented(source), "docstrings are filled anew, and nothing else"
    assert max(map(len, shown.text.splitlines())) <= LISTING_COLUMNS


def test_a_class_is_shown_whole():
    text = show_source(Table).text
    assert text.startswith("@dataclass(frozen=True)\nclass Table:\n")
    assert "\n    def __repr__(self) -> str:\n" in text


@pytest.mark.parametrize("name", ["score", "weigh", "gather", "fold", "plan", "attend_all"])
def test_a_kernel_is_shown_with_its_comment_to_its_end(name):
    shown = show_kernel("attention.h", name)
    assert shown.file == "helpers/native/sources/attention.h"
    assert f" {name}(" in shown.text
    assert shown.text in (ROOT / shown.file).read_text()
    assert shown.text.splitlines()[-1] == "}"
    assert "\n}\n" not in shown.text, "one function alone"
    assert shown._repr_markdown_().startswith(f"`{shown.file}`\n\n```cpp\n")


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="no function 'sort'"):
        show_kernel("attention.h", "sort")
