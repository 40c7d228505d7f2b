"""Labs in a real browser: a wrong answer shows its message, the right one the success line and the progress."""

from __future__ import annotations

import pytest

from tests.browser.lab import Lab
from tools import notebooks as nbs

# A wrong answer to some of the exercises, and what the learner is told.
WRONG = {
    "01_memory_math": {
        "token-bytes": ("token_bytes = 2 * 32 * 32 * 128 * 2", "Do all 32 query heads have keys and values"),
        "kv-bytes": ("kv_bytes = article_kv_bytes", "the value is wrong"),
    },
    "03_kv_cache": {
        "copied": ("copied = 150", "That is written in place."),
        "cache": ("class MyCache(ArticleCache):\n    pass", "Exercise 3.2"),
    },
    "06_paged_attention": {
        "pages": ("pages = 27", "Is anything shared?"),
        "gather": (
            "def gather(cache, table, length):\n    return cache[table].flatten(0, 1)",
            "Are that whole pages?",
        ),
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_a_lab_in_the_browser(lab: Lab, name: str) -> None:
    lab.resize(1280)
    lab.open(f"labs/{name}.ipynb")
    output, right, ids = "", answers(name), cells(name)
    for number, grade_id in enumerate(ids):
        if grade_id in WRONG[name]:
            wrong, message = WRONG[name][grade_id]
            lab.run_cell(number, wrong)
            assert message in lab.run_cell(number + 1)
            lab.picture(f"lab_{name}_{grade_id}_wrong")
        output = lab.run_cell(number, right.get(grade_id))
        if grade_id.startswith("check-"):
            assert output.startswith("Exercise "), output
            assert output.endswith(": done."), output
    checks = sum(grade_id.startswith("check-") for grade_id in ids)
    assert output.count("done") == checks, "the last cell shows the progress"
    lab.picture(f"lab_{name}_done")
    lab.close()


def cells(name: str) -> list[str]:
    """The names of a lab's code cells, in order; empty where a cell has none."""
    notebook = nbs.read(nbs.ROOT / "labs" / f"{name}.ipynb")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell.metadata.get("nbgrader", {}).get("grade_id", "") for cell in code]


def answers(name: str) -> dict[str, str]:
    """The solution's source for each exercise, by its cell's name."""
    notebook = nbs.read(nbs.ROOT / "solutions" / f"{name}.ipynb")
    graded = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in graded}
