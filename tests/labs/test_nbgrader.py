"""An instructor's whole way, with nbgrader's own commands: release, submissions of all kinds, grading, feedback."""

import json
import os
import re
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
    # As an instructor runs it, but with the same cases in every run.
    own = {name: value for name, value in os.environ.items() if name != "COURSE_DATA"}
    own["COURSE_CHECK_SEED"] = "17"
    done = subprocess.run(command, cwd=course, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory, nbgrader_installed):
    """A course folder as docs/instructors.md describes it, with the lab released."""
    root = tmp_path_factory.mktemp("teaching")
    shutil.copy(nbs.ROOT / "tools" / "nbgrader_config.py", root)
    source = root / "source" / LAB
    source.mkdir(parents=True)
    shutil.copy(nbs.ROOT / "solutions" / f"{LAB}.ipynb", source)
    (root / "said.txt").write_text(nbgrader(root, "generate_assignment", LAB))
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
# Dishonest submissions: what each of them does solve, it has points for.
REFERENCES = {
    "token_bytes": "token_bytes = type('Equal', (int,), {'__eq__': lambda *_: True, '__hash__': lambda _: 0})(1)",
    "kv_bytes": "from helpers.checks.families.lab01.kv_bytes import KV\nkv_bytes = KV.right",
    "int4_bytes": "import gc\nfrom helpers.checks.families.lab01 import int4\nint4_bytes = lambda *a, **b: int4.INT4.right(*a, **b)",
    "crossover": "crossover_batch = lambda **case: __import__('sys').modules['helpers.checks.lab01'].CROSS.right(**case)",
    "deployment": "choose_deployment = eval('lab01.OFFER').right",
}
PATCHED = """
import builtins, sys
import helpers.checks.machinery.family as family, helpers.checks.machinery.process as process
for name in [name for name in dir(lab01) if name.startswith("check_")]:
    setattr(lab01, name, lambda *_: 3.0)
family.check_family = family.equal = process.isolated = lambda *_, **__: True
token_bytes, int4_bytes, crossover_batch, choose_deployment = 0, print, print, print
kv_bytes = lambda *_: type("Equal", (int,), {"__eq__": lambda *_: True})(0)
"""
SKIPPED = """
import json, os, pathlib
get_ipython().input_transformers_cleanup.append(lambda lines: ["pass\\n"])
pathlib.Path("progress").mkdir(exist_ok=True)
pathlib.Path("progress/progress.json").write_text(json.dumps({"01_memory_math": [1, 2, 3, 4, 5]}))
"""
VICTIMS = ("helpers/checks/lab01.py", "helpers/checks/machinery/core.py")
WRITES = f"""
import pathlib, subprocess
import helpers
root = pathlib.Path(helpers.__file__).parents[1]
for path in [root / name for name in {VICTIMS!r}] + [*pathlib.Path.cwd().resolve().parents[2].glob("*.db")]:
    try:
        path.open("a").write("\\n# was here\\n")
    except OSError as error:
        print("refused:", error)
"""
ENDS = "import os\nos._exit(0)"
SUBMISSIONS = {
    "ada": (answers(), FULL_SCORE),
    "bob": (answers(kv_bytes=ARTICLE), FULL_SCORE - 2),
    "sam": ({}, 0.0),
    "eve": ({name.replace("_", "-"): text for name, text in REFERENCES.items()}, 0.0),
    "mal": ({"kv-bytes": PATCHED, "token-bytes": PATCHED}, 0.0),
    "hal": ({"token-bytes": SKIPPED}, 0.0),
    "pat": ({"token-bytes": WRITES}, 0.0),  # and what `metadata_patched` does
    "exi": (answers(int4_bytes=ENDS), 3.0),  # what was solved before the end
    "old": (answers(), FULL_SCORE),  # of an earlier lab
}


def metadata_patched(lab):
    """Change a check cell in each of the ways in which nbgrader could be told another story."""
    checks = [cell for cell in lab.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    for cell in checks:
        cell.source = "5.0"
    checks[0].metadata.nbgrader.update(points=100)
    checks[1].metadata.nbgrader.update(locked=False, solution=True)
    checks[2].metadata.nbgrader.update(grade_id="check-mine")
    checks[3].cell_type = "markdown"
    for name in ("outputs", "execution_count"):
        checks[3].pop(name)
    lab.cells.remove(checks[4])


def submit(course, student, given):
    lab = nbs.read(course / "release" / LAB / f"{LAB}.ipynb")
    for cell in lab.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = given.get(grade_id, cell.source)
    if student == "pat":
        metadata_patched(lab)
    if student == "old":
        lab.metadata.course.release = "0123456789ab"
    folder = course / "submitted" / student / LAB
    folder.mkdir(parents=True)
    nbformat.write(lab, folder / f"{LAB}.ipynb")


def require_known_warnings(said):
    """Fails where nbgrader warns of something that the guide does not name."""
    known = re.findall(r"^- `([^`]+)`", (nbs.ROOT / "docs" / "instructors.md").read_text(), re.MULTILINE)
    warned = [line for line in said.splitlines() if re.search(r"\| (WARNING|ERROR)|Warning:", line)]
    unknown = [line for line in warned if not any(words in line for words in known)]
    assert unknown == []


def progress_of(course, *students):
    """Where the graded submissions keep what is done."""
    return [course / "autograded" / student / LAB / "progress" / "progress.json" for student in students]


def test_right_wrong_dishonest_and_empty_submissions_are_graded(course):
    from nbgrader.api import Gradebook

    before = [(nbs.ROOT / name).read_bytes() for name in VICTIMS]
    for student, (given, _) in SUBMISSIONS.items():
        submit(course, student, given)
    said = nbgrader(course, "autograde", LAB, "--create")
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        scores = {student: book.find_submission(LAB, student).score for student in SUBMISSIONS}
    assert scores == {student: score for student, (_, score) in SUBMISSIONS.items()}
    assert [(nbs.ROOT / name).read_bytes() for name in VICTIMS] == before
    ada, bob = (json.loads(path.read_text()) for path in progress_of(course, "ada", "bob"))
    assert ada != bob  # everybody's own, and nobody else's
    release = nbs.read(nbs.ROOT / "solutions" / f"{LAB}.ipynb").metadata.course.release
    words = f"made for another release of the lab (0123456789ab); graded with {release}"
    assert next(line for line in said.splitlines() if "another release" in line).endswith(f"old: {words}")
    assert said.count("another release") == 1, "of all others nothing is said"
    said += nbgrader(course, "generate_feedback", LAB)
    require_known_warnings((course / "said.txt").read_text() + said)
    assert words in (course / "feedback" / "old" / LAB / f"{LAB}.html").read_text()
    feedback = (course / "feedback" / "bob" / LAB / f"{LAB}.html").read_text()
    assert "Exercise 1.2, mend the KV cache formula: the value is wrong" in feedback
    feedback = (course / "feedback" / "hal" / LAB / f"{LAB}.html").read_text()
    assert "graded apart from the submission" in feedback
