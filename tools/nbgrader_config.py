"""nbgrader's settings, for `tools/make_labs.py` and for an instructor's own nbgrader commands.

Submitted code could replace whatever gives points in its own kernel. So a check's points are given where the check holds twice:
in the notebook's kernel, and in a process into which no submitted code comes.
"""

import os
import shutil
from pathlib import Path

import nbformat
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import ClearMetadataPreprocessor, Preprocessor
from nbformat.v4 import new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    Execute,
    IgnorePattern,
    LimitOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)
from traitlets import Bool


class RestoreKinds(NbGraderPreprocessor):
    """Makes a submission's cells again what they were when the lab was released: checks, answers, and their points."""

    def preprocess(self, nb, resources):
        """Return the notebook in which every known cell has the database's kind and points."""
        about = resources["nbgrader"]
        with Gradebook(about["db_url"]) as book:
            known = book.find_notebook(about["notebook"], about["assignment"])
            points = {cell.name: cell.max_score for cell in known.grade_cells}
            solutions = {cell.name for cell in known.solution_cells}
        for cell in nb.cells:
            kind = cell.metadata.get("nbgrader", {})
            name = kind.get("grade_id")
            if name not in points and name not in solutions:
                cell.metadata.pop(
                    "nbgrader", None
                )  # no cell of the lab's: nbgrader would refuse the notebook for it
            else:
                kind.update(grade=name in points, solution=name in solutions, task=False)
            if name in points:
                kind["points"] = points[name]
        return nb, resources


class GuardedExecute(Execute):
    """Executes a submission; where its code ends the kernel, no cell that comes later counts as passed."""

    def preprocess(self, nb, resources):
        """Return the executed notebook; every check cell that was not executed has an error."""
        try:
            nb, resources = super().preprocess(nb, resources)
        except DeadKernelError:
            self.log.warning("The submission ended its kernel")
        # A kernel that was ended leaves its temporary folder, which is not to stand beside the graded notebook.
        for left in Path(resources["metadata"]["path"]).glob("graded-*"):
            shutil.rmtree(left, ignore_errors=True)
        for cell in nb.cells:
            if _is_check(cell) and not cell.get("execution_count"):
                _fail(cell, "this cell was not executed: the code before it ended the kernel")
        return nb, resources


class GradeApart(NbGraderPreprocessor):
    """Does each check once more where the submission's code cannot reach it, and takes the points where it does not hold."""

    def preprocess(self, nb, resources):
        """Return the notebook in which a check cell has an error, or shows nothing that could count as points."""
        from helpers.grading import (
            Cell,
            grade,
            suspicious,
        )  # which loads torch, and other commands need it not

        code = [(i, cell) for i, cell in enumerate(nb.cells) if cell.cell_type == "code"]
        cells = [Cell(_name(i, cell), cell.source, _is_check(cell)) for i, cell in code]
        for i, cell in code:
            if not _is_check(cell) and (named := suspicious(cell.source)):
                self.log.warning("Cell %d names the checks' own code: %s", i, ", ".join(named))
        verdicts = grade(cells)
        for i, cell in code:
            if _is_check(cell):
                # A number that a cell shows would be taken for points.
                cell.outputs = [
                    output for output in cell.outputs if output.output_type in ("error", "stream")
                ]
                wrong = verdicts.get(_name(i, cell), "there is no verdict")
                if wrong and not any(output.output_type == "error" for output in cell.outputs):
                    _fail(cell, f"graded apart from the submission: {wrong}")
        return nb, resources


class NameRelease(Preprocessor):
    """Say, in the log and at the top of the feedback, when a submission was made for another release of its lab.

    A lab's metadata hold its release, a hash of what its learner sees; `tools/refresh.py` writes it. The release that is
    graded is that of the notebook in `source/`.
    """

    enabled = Bool(default_value=True)  # as nbgrader's own are

    def preprocess(self, nb, resources):
        """Return the notebook, with a text cell at its top when its release is not the one that is graded."""
        about = resources["nbgrader"]
        if about.get("release named"):  # nbgrader may list a preprocessor of this file twice
            return nb, resources
        about["release named"] = True
        source = Path("source", about["assignment"], f"{about['notebook']}.ipynb")
        graded = _release(nbformat.read(source, as_version=4)) if source.exists() else None
        made = _release(nb)
        if graded and made != graded:
            what = f"made for another release of the lab ({made or 'before releases were recorded'})"
            words = f"{about['student']}: {what}; graded with {graded}"
            self.log.warning("%s", words)
            nb.cells.insert(0, nbformat.v4.new_markdown_cell(f"**Another release.** {words}."))
        return nb, resources


def _release(notebook):
    """Return a notebook's release, or None where it has none."""
    return notebook.metadata.get("course", {}).get("release")


def _name(i, cell):
    """Return the cell's name: nbgrader's, or its number."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {i}"


def _is_check(cell):
    """Return whether a cell gives points by itself."""
    known = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(known.get("grade")) and not known.get("solution")


def _fail(cell, sentence):
    """Give a cell an error, so that it has no points."""
    cell.outputs.append(new_output("error", ename="CheckFailed", evalue=sentence, traceback=[sentence]))


# Each submission's progress is its own, in the folder in which it is graded, and not the instructor's.
os.environ.setdefault("COURSE_DATA", "progress")
c = get_config()  # noqa: F821  (traitlets calls this file with it)
c.CourseDirectory.course_id = "ascend-inference-course"
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("replace this line by your answer")'
}
c.ClearSolutions.enforce_metadata = True
c.Autograde.sanitize_preprocessors = [
    NameRelease,
    ClearOutput,
    DeduplicateIds,
    OverwriteKernelspec,
    RestoreKinds,
    OverwriteCells,
    CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    GuardedExecute,
    GradeApart,
    IgnorePattern,
    ClearMetadataPreprocessor,
    LimitOutput,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]
# The kernel changes files in the submission's folder alone, and starts no program; helpers/grading/guard.py says more.
PROTECT = "--IPKernelApp.exec_lines=from helpers.grading import protect_kernel; protect_kernel()"
c.GuardedExecute.timeout = c.GuardedExecute.startup_timeout = (
    600  # seconds of a cell: graders' machines are busy
)
c.GuardedExecute.extra_arguments = ["--HistoryManager.hist_file=:memory:", PROTECT]
