"""What a lab's first lines promise: as many exercises as there are, and the minutes that they take together."""

import re

import pytest

from tools import notebooks as nbs

SOURCES = [source for source in nbs.sources() if source.parent.parent.name == "solutions"]
NUMBERS = {"Three": 3, "Four": 4, "Five": 5, "Six": 6, "Seven": 7}
HEADER = re.compile(r"^(\w+) exercises, about (\d+) minutes", re.MULTILINE)
EXERCISE = re.compile(r"^## \d+\.\d+ .* [●○]{3} (\d+) minutes$", re.MULTILINE)


def texts(source):
    """All Markdown of a source."""
    cells = nbs.read_source(source).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_header_counts_the_exercises_and_their_minutes(source):
    text = texts(source)
    count, minutes = HEADER.search(text).groups()
    each = [int(found) for found in EXERCISE.findall(text)]
    assert (NUMBERS[count], int(minutes)) == (len(each), sum(each))
    assert len(each) == len(re.findall(r"^## \d", text, re.MULTILINE)), "each exercise has its minutes"
