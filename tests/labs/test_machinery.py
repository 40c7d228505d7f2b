"""Labs come from solutions; checks survive what learners write; progress is kept."""

import copy
import threading
import time

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from helpers.checks import CheckFailed, attempt, lab01, progress, reset_progress
from helpers.checks.machinery import limit, record
from tests.labs.answers import endless, stubborn
from tests.remedies import nothing
from tools import make_labs
from tools import notebooks as nbs

SOLUTIONS = sorted((nbs.ROOT / "solutions").glob("*.ipynb"))


@pytest.fixture
def own_record(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.usefixtures("nbgrader_installed")
def test_labs_are_what_their_solutions_give():
    assert SOLUTIONS
    nothing([*make_labs.old_solutions(), *make_labs.stale()])


@pytest.mark.usefixtures("nbgrader_installed")
def test_a_stale_a_missing_and_an_orphaned_lab_are_said(tmp_path):
    for folder in ("solutions", "labs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "solutions" / SOLUTIONS[0].name).write_bytes(SOLUTIONS[0].read_bytes())
    assert "is not what its solution gives" in make_labs.stale(tmp_path)[0]
    lab = tmp_path / "labs" / SOLUTIONS[0].name
    lab.write_text(make_labs.make(SOLUTIONS[0]))
    assert make_labs.stale(tmp_path) == []
    lab.write_text(lab.read_text().replace("●○○", "●●●"))
    assert "is not what its solution gives" in make_labs.stale(tmp_path)[0]
    (tmp_path / "solutions" / SOLUTIONS[0].name).unlink()
    assert make_labs.stale(tmp_path) == [f"labs/{lab.name} has no solution"]


@pytest.fixture
def lab_course(tmp_path):
    """A course of one solution, whose notebook is what its source says."""
    source = tmp_path / "solutions" / "src" / f"{SOLUTIONS[0].stem}.py"
    source.parent.mkdir(parents=True)
    source.write_text(nbs.source_of(SOLUTIONS[0]).read_text())
    nbformat.write(nbs.read_source(source), nbs.notebook_of(source))
    return source


def test_a_solution_that_is_older_than_its_source_is_said(lab_course, monkeypatch, capsys):
    root = lab_course.parents[2]
    assert make_labs.old_solutions(root) == []
    lab_course.write_text(lab_course.read_text().replace("●○○", "●●●", 1))
    (said,) = make_labs.old_solutions(root)
    assert "is older than its source; run: python tools/refresh.py solutions/01_memory_math" in said
    assert said.endswith("&& python tools/make_labs.py")
    monkeypatch.setattr(make_labs, "old_solutions", lambda: [said])
    monkeypatch.setattr(make_labs, "write_all", lambda: None)
    monkeypatch.setattr(make_labs, "stale", lambda: [])
    assert make_labs.main([]) == 0
    assert capsys.readouterr().err == f"warning: {said}\n"
    assert make_labs.main(["--check"]) == 1
    assert said in capsys.readouterr().out


def test_a_release_is_what_a_learner_sees(lab_course):
    def release(old, new):
        text = lab_course.read_text()
        assert old in text
        other = lab_course.with_name("other.py")
        other.write_text(text.replace(old, new))
        return nbs.read_source(other).metadata.course.release

    usual = release("", "")
    assert nbs.read_source(lab_course).metadata.course.release == usual
    assert release("### END SOLUTION", "pass\n### END SOLUTION") == usual, "an answer is not seen"
    assert release("### END HIDDEN", "assert True\n### END HIDDEN") == usual, "a hidden test is not seen"
    assert len({usual, release("●○○", "●●●"), release('"points": 1', '"points": 9')}) == 3
    notebook = nbs.read(nbs.notebook_of(lab_course))
    notebook.metadata.course.release = "older"
    nbformat.write(notebook, nbs.notebook_of(lab_course))
    assert make_labs.old_solutions(lab_course.parents[2]), "a solution carries its source's release"


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
def test_a_lab_holds_no_solution_and_no_output(solution):
    lab = nbs.read(make_labs.lab_of(solution))
    text = "\n".join(cell.source for cell in lab.cells)
    for mark in ("BEGIN SOLUTION", "BEGIN HIDDEN", "END SOLUTION"):
        assert mark not in text
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in lab.cells)
    assert "YOUR CODE HERE" in text


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
def test_an_untouched_lab_stops_at_its_first_stub(solution):
    lab = nbs.read(make_labs.lab_of(solution))
    nbs.use_this_interpreter()
    with pytest.raises(CellExecutionError) as failure:
        nbs.execute(lab, nbs.ROOT / "labs")
    assert failure.value.ename in {
        "NotImplementedError",
        "CheckFailed",
    }  # an answer's own cell, a function's check
    assert "replace this line by your answer" in failure.value.evalue


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
def test_a_lab_with_the_solutions_put_back_passes(solution):
    lab, solved = nbs.read(make_labs.lab_of(solution)), nbs.read(solution)
    by_id = {cell.metadata.nbgrader.grade_id: cell for cell in solved.cells if "nbgrader" in cell.metadata}
    for cell in lab.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = by_id[cell.metadata.nbgrader.grade_id].source
    nbs.execute(copy.deepcopy(lab), nbs.ROOT / "labs")


def test_a_loop_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 0.2)
    before = threading.active_count()
    with pytest.raises(CheckFailed, match=r"did not end within 0\.2 seconds"):
        attempt(endless, x=1)
    time.sleep(0.1)
    assert threading.active_count() == before, "its thread is gone"
    with pytest.raises(CheckFailed, match="did not end"):
        attempt(stubborn, x=1)


def test_the_message_says_which_input_what_was_expected_and_what_came():
    with pytest.raises(CheckFailed) as failure:
        lab01.check_int4_bytes(lambda **_: 7)
    text = str(failure.value)
    assert text.startswith("Exercise 1.3, four bits in groups: the value is wrong")
    assert "for:      num_weights=7, group_size=3," in text
    assert "expected: 7.625" in text
    assert "got:      7" in text
    assert failure.value._render_traceback_() == [text]


def test_progress_is_kept_shown_and_reset(own_record):
    lab01.check_token_bytes(131072)
    assert record.done() == {lab01.LAB: [1]}
    assert [row[-1] for row in progress().rows if row[0] == lab01.LAB] == ["done"] + [""] * 5
    reset_progress("another lab")
    assert record.done() == {lab01.LAB: [1]}
    reset_progress()
    assert record.done() == {}


def test_a_failed_check_records_nothing(own_record):
    with pytest.raises(CheckFailed):
        lab01.check_token_bytes(1)
    assert record.done() == {}


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"a": 5}', '{"a": ["x"]}'])
def test_a_damaged_record_counts_as_none(own_record, content):
    own_record.mkdir()
    (own_record / "progress.json").write_text(content)
    lab01.check_token_bytes(131072)
    assert record.done() == {lab01.LAB: [1]}


def test_a_record_that_cannot_be_written_does_not_stop_the_lab(own_record, capsys):
    own_record.write_text("a file where the folder should be")
    lab01.check_token_bytes(131072)
    assert capsys.readouterr().out.endswith("done.\n")
