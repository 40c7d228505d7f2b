"""A number in the prose is one that a cell shows: what is told and no longer true is found."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.remedies import nothing
from tools import in_sync, prose_numbers
from tools import notebooks as nbs

CHAPTER = nbs.ROOT / "notebooks" / "src" / "04_prefix_reuse.py"


def test_every_number_in_the_prose_is_shown_by_a_cell():
    nothing(prose_numbers.problems())


def test_no_exception_outlives_its_number():
    assert prose_numbers.unused() == []
    reasons = [reason for found in prose_numbers.ALLOWED.values() for reason in found.values()]
    assert all(len(reason.split()) >= 3 for reason in reasons)
    assert len(reasons) <= 12, "an exception is for a number that no cell could show"


def test_a_number_changed_in_the_code_is_found_in_text_and_title(tmp_path):
    source = tmp_path / "notebooks" / "src" / CHAPTER.name
    source.parent.mkdir(parents=True)
    text = CHAPTER.read_text()
    assert "visitors=36" in text
    source.write_text(text.replace("visitors=36", "visitors=48"))
    told = prose_numbers.problems([source])
    nbs.notebook_of(source).write_bytes(nbs.notebook_of(CHAPTER).read_bytes())
    found = [text for text in prose_numbers.problems([source]) if "no cell shows 36:" in text]
    assert [re.search(r"\w+ \w+ 36 visitors", text).group() for text in found] == [
        "them come 36 visitors",
        "talks and 36 visitors",
    ]
    assert len(told) > 2, "without a notebook no output shows anything"


def unknown(text, code="x = 1", *outputs, kind="markdown"):
    """The numbers that one text cell, or the code itself, tells without a cell that shows them."""
    results = [new_output("stream", name="stdout", text=output) for output in outputs]
    cells = [new_code_cell(code, outputs=results)]
    cells += [new_markdown_cell(text)] if kind == "markdown" else []
    return [found.split(":")[0] for found in prose_numbers.unknown(new_notebook(cells=cells))]


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("visitors = 36", ""),
        ("x = 0.036", ""),
        ("print(6 * 6)", "36"),
        ("print(f'{x:.0f} of them')", "36 of them"),
        ("print(1)", "1\n36.0 GB"),
    ],
)
def test_a_number_is_known_from_code_or_output_in_any_unit(code, output):
    assert unknown("There are 36 visitors.", code, output) == []


@pytest.mark.parametrize("code", ["# 36 of them", "t = '36 visitors'", "x = 37", "print(f'{x:36}')"])
def test_a_text_in_code_proves_nothing_nor_does_its_echo_in_an_output(code):
    assert "36" in unknown("There are 36 visitors.", code, "36 visitors" if "'36" in code else "37")


def test_titles_and_comments_are_prose_and_widths_are_not():
    assert unknown("", "plot('Six talks and 36 visitors')", kind="code") == ["36"]
    assert unknown("", "plot(f'{n} talks and 36 visitors')", kind="code") == ["36"]
    assert unknown("", "x = 1  # 36 visitors", kind="code") == ["36"]
    assert unknown("", "print(f'{x:36}')", kind="code") == []


@pytest.mark.parametrize(
    "text",
    [
        "In chapter 12 and `f(36)`, see [this](https://x.y/36), arXiv:2401.00588, $2^{36}$, and (Smith 1956).",
        "## 12.3 A heading\n\nabout 45 minutes",
        "<details><summary>Hint 36</summary>Try 36.</details>",
        "**Check yourself.**\n\n1. What are 36 visitors?",
        "There are 9 of them.",
    ],
)
def test_names_hints_and_small_numbers_are_no_claims(text):
    assert unknown(text) == []


def test_other_software_has_numbers_of_its_own_until_the_next_heading():
    assert unknown("## In production\n\nIt takes 36.\n\n## Recap\n\n37 visitors") == ["37"]


def test_in_sync_reports_a_number_that_no_cell_shows(monkeypatch, capsys):
    monkeypatch.setattr(in_sync, "problems", lambda: [])
    monkeypatch.setattr(prose_numbers, "problems", lambda: ["notebooks/x: no cell shows 36"])
    assert in_sync.main() == 1
    assert capsys.readouterr().out == "notebooks/x: no cell shows 36\n"
