"""The links at the end of notebooks, the glossary, and text alternatives: made from the sources, and never stale."""

from pathlib import Path

import pytest

from tests.remedies import nothing
from tools import glossary, way
from tools import notebooks as nbs

HEADER = "# ---\n# jupyter:\n#   jupytext:\n#     text_representation:\n#       extension: .py\n#       format_name: percent\n# ---\n\n"


def source(root: Path, folder: str, name: str, text: str) -> Path:
    """A source with this Markdown as its first cell, and a code cell."""
    path = root / folder / "src" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = ["\n".join(f"# {line}".rstrip() for line in cell.split("\n")) for cell in text.split("\n---\n")]
    path.write_text(
        HEADER + "\n\n".join(f"# %% [markdown]\n{cell}" for cell in cells) + "\n\n# %%\nprint()\n"
    )
    return path


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """Three chapters and a lab."""
    source(tmp_path, "notebooks", "00_start", "# 0 Start\n---\nGood bye.")
    source(
        tmp_path,
        "notebooks",
        "01_cache",
        "# 1 Cache\n---\n## Recap\n\nThat was it.\n\nNow you: [old](old.ipynb)",
    )
    source(tmp_path, "notebooks", "02_pages", "# 2 Pages\n---\nThe end.")
    source(tmp_path, "solutions", "01_cache", "# Lab 1: cache\n---\n## How far you are")
    return tmp_path


def test_a_chapter_leads_to_its_lab_and_its_neighbours(course):
    here = course / "notebooks" / "src" / "01_cache.py"
    text = way.linked(here, course)
    assert "[old]" not in text
    assert (
        "# That was it.\n#\n"
        "# Now you: [Lab 1](../labs/01_cache.ipynb).\n# Next: [2 Pages](02_pages.ipynb).\n# Back: [0 Start](00_start.ipynb).\n"
    ) in text
    assert text.endswith("\n\n# %%\nprint()\n"), "what follows stays"


def test_the_first_and_the_last_chapter_have_one_neighbour(course):
    first, last = (
        way.links(course / "notebooks" / "src" / f"{n}.py", course) for n in ("00_start", "02_pages")
    )
    assert [line for line in first if line.startswith(("Next", "Back", "Now"))] == [
        "Next: [1 Cache](01_cache.ipynb)."
    ]
    assert [line for line in last if line.startswith(("Next", "Back", "Now"))] == [
        "Back: [1 Cache](01_cache.ipynb)."
    ]


def test_a_lab_leads_to_its_chapter_and_the_next(course):
    lab = way.links(course / "solutions" / "src" / "01_cache.py", course)
    assert lab[:2] == [
        "Next: [2 Pages](../notebooks/02_pages.ipynb).",
        "Back: [1 Cache](../notebooks/01_cache.ipynb).",
    ]


def test_linking_twice_changes_nothing_and_a_new_chapter_is_linked(course):
    for path in nbs.sources(course):
        path.write_text(way.linked(path, course))
    assert way.stale(course) == []
    source(course, "notebooks", "03_more", "# 3 More\n---\nEnd.")
    assert [path.stem for path in way.stale(course)] == ["02_pages", "03_more"]


def test_this_courses_links_are_right():
    nothing(f"{path.name}; run: python tools/way.py" for path in way.stale())


MARKED = "[**hit rate**](../docs/glossary.md#hit-rate)"


def test_the_sentence_around_a_mark_is_its_definition(course):
    text = f"# 1 Cache\n---\nFirst. The {MARKED} is the reused\nshare of [all](x.md) tokens. Last.\n\n- Another one."
    source(course, "notebooks", "01_cache", text)
    (entry,) = glossary.entries(course)
    assert (entry.term, entry.sentence) == ("hit rate", "The **hit rate** is the reused share of all tokens.")
    assert "## hit rate\n\nThe **hit rate** is" in glossary.glossary(course)
    assert "([1 Cache](../notebooks/01_cache.ipynb))" in glossary.glossary(course)


def test_wrong_anchors_and_second_definitions_are_named(course):
    twice = f"# 1 Cache\n---\nA {MARKED}.\n\nAnother {MARKED}. And [**LRU**](../docs/glossary.md#least)."
    source(course, "notebooks", "01_cache", twice)
    found = glossary.problems(glossary.entries(course))
    assert found == ["01_cache.py: LRU links to #least", "01_cache.py: hit rate is defined in 01_cache.py"]


@pytest.mark.parametrize(
    ("term", "listed"),
    [
        ("Flash decoding", "flash decoding"),
        ("pages", "pages"),
        ("TTFT", "TTFT"),
        ("KV cache", "KV cache"),
        ("GiB", "GiB"),
        ("Jain's index", "Jain's index"),
    ],
)
def test_a_capital_that_only_a_sentence_asked_for_is_not_listed(term, listed):
    assert glossary.heading(term) == listed


def test_this_courses_glossary_is_up_to_date(capsys):
    assert glossary.main(["--check"]) == 0, capsys.readouterr().out
    found = glossary.entries()
    assert len(found) > 30
    assert all(len(entry.sentence.split()) > 4 for entry in found), "a definition is a sentence"


@pytest.mark.parametrize("path", nbs.notebooks(), ids=lambda path: path.stem)
def test_every_figure_has_a_text_alternative(path):
    for cell in nbs.read(path).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"].get("alt", "")) > 10
            pictures = output.get("data", {}).get("text/html", "").split("<img ")[1:]
            assert all(picture.startswith('alt="') and picture[5] != '"' for picture in pictures)
