"""Short words of the trade are explained where a chapter or a lab first uses them."""

import re

import pytest

from tests.remedies import nothing
from tools import notebooks as nbs

# A word as it is used, and what its explanation looks like.
TERMS = {
    "p50": (r"\bp50\b", r"p50\*{0,2} is "),
    "p99": (r"\bp99\b", r"p99\*{0,2} (?:is )?what "),
    "seat": (r"\bseats?\b", r"seat(?:\*\*\]\([^)]*\)|\*\*)? is the place|seat, (?:the|a) place"),
    "evictable": (r"\bevictable\b", r"\*\*evictable\*\*"),
}


def unexplained(notebook):
    """The terms that a notebook uses before it explains them: in its texts, or in code that a reader sees."""
    texts = [" ".join(cell.source.split()) for cell in notebook.cells]
    found = []
    for term, (used, explained) in TERMS.items():
        first = next((i for i, text in enumerate(texts) if re.search(used, text)), None)
        if first is not None and not any(re.search(explained, text) for text in texts[: first + 1]):
            found.append(f"{term!r} is not explained where cell {first} uses it: {texts[first][:120]}")
    return found


@pytest.mark.parametrize("source", nbs.sources(), ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_term_is_explained_where_it_is_first_used(source):
    nothing(unexplained(nbs.read_source(source)))


def test_an_unexplained_term_is_found(tmp_path):
    source = tmp_path / "x.py"
    for text, found in (
        ("# %% [markdown]\n# The p99 and four seats.\n", 2),
        ("# %% [markdown]\n# A seat is the place of a request.\n\n# %%\nprint('TTFT p50')\n", 1),
        ("# %% [markdown]\n# **p50** is the median.\n\n# %%\nprint('TTFT p50')\n", 0),
    ):
        source.write_text(text)
        assert len(unexplained(nbs.read_source(source))) == found, text
