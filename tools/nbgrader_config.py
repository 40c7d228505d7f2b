"""nbgrader's settings, for `tools/make_labs.py` and for an instructor's own nbgrader commands."""

import os
from pathlib import Path

import nbformat
from nbconvert.preprocessors import Preprocessor
from traitlets import Bool

# Each submission's progress is its own, in the folder in which it is graded, and not the instructor's.
os.environ.setdefault("COURSE_DATA", "progress")
c = get_config()  # noqa: F821  (traitlets calls this file with it)
c.CourseDirectory.course_id = "ascend-inference-course"
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("replace this line by your answer")'
}
c.ClearSolutions.enforce_metadata = True


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


c.Autograde.sanitize_preprocessors.prepend([NameRelease])
