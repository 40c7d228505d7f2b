"""An instructor's whole way, with nbgrader's own commands: release, three submissions, grading, feedback."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from tools import make_labs
from tools import notebooks as nbs

pytestmark = pytest.mark.usefixtures("nbgrader_installed")
LAB = "01_memory_math"
FULL_SCORE = 13.0


def nbgrader(course, *arguments):
    nbs.use_this_interpreter()
    command = [sys.executable, "-m", "nbgrader", *arguments]
    # As an instructor runs it.
    own = {name: value for name, value in os.environ.items() if name != "COURSE_DATA"}
    done = subprocess.run(command, cwd=course, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory, nbgrader_installed):
    """A course folder as docs/instructors.md describes it, with the lab released."""
    root = tmp_path_factory.mktemp("teaching")
    shutil.copy(nbs.ROOT / "tools" / "nbgrader_config.py", root)
    source = root / "source" / LAB
    source.mkdir(parents=True)
    shutil.copy(nbs.ROOT / "solutions" / f"{LAB}.ipynb", source)
    nbgrader(root, "generate_assignment", LAB)
    return root


def test_nbgrader_releases_the_very_lab_that_is_committed(course):
    released = course / "release" / LAB / f"{LAB}.ipynb"
    assert released.read_bytes() == make_labs.lab_of(nbs.ROOT / "solutions" / f"{LAB}.ipynb").read_bytes()


def answers(**changed):
    """The solution's answers by grade id, some replaced."""
    solved = nbs.read(nbs.ROOT / "solutions" / f"{LAB}.ipynb")
    cells = [cell for cell in solved.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    right = {cell.metadata.nbgrader.grade_id: cell.source for cell in cells}
    return {**right, **{name.replace("_", "-"): text for name, text in changed.items()}}


ARTICLE = (
    "def kv_bytes(shape, batch_size, seq_len, element_size):\n    return 2 * batch_size * shape.hidden_size"
)
CHEAT = "lab01.check_int4_bytes = print\nint4_bytes = lambda *_: 0"
SUBMISSIONS = {
    "ada": (answers(), FULL_SCORE),
    "bob": (answers(kv_bytes=ARTICLE), FULL_SCORE - 2),
    "eve": (answers(int4_bytes=CHEAT), FULL_SCORE - 2),  # only a hidden test can tell
    "sam": ({}, 0.0),
}


def submit(course, student, given):
    lab = nbs.read(course / "release" / LAB / f"{LAB}.ipynb")
    for cell in lab.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = given.get(grade_id, cell.source)
    folder = course / "submitted" / student / LAB
    folder.mkdir(parents=True)
    nbformat.write(lab, folder / f"{LAB}.ipynb")


def progress_of(course, *students):
    """Where the graded submissions keep what is done."""
    return [course / "autograded" / student / LAB / "progress" / "progress.json" for student in students]


def test_right_wrong_dishonest_and_empty_submissions_are_graded(course):
    from nbgrader.api import Gradebook

    for student, (given, _) in SUBMISSIONS.items():
        submit(course, student, given)
    nbgrader(course, "autograde", LAB, "--create")
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        scores = {student: book.find_submission(LAB, student).score for student in SUBMISSIONS}
    assert scores == {student: score for student, (_, score) in SUBMISSIONS.items()}
    ada, bob = (json.loads(path.read_text()) for path in progress_of(course, "ada", "bob"))
    assert ada != bob  # everybody's own, and nobody else's
    nbgrader(course, "generate_feedback", LAB)
    feedback = (course / "feedback" / "bob" / LAB / f"{LAB}.html").read_text()
    assert "Exercise 1.2, mend the KV cache formula: the value is wrong" in feedback
