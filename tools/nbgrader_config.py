"""nbgrader's settings, for `tools/make_labs.py` and for an instructor's own nbgrader commands."""

import os

# Each submission's progress is its own, in the folder in which it is graded, and not the instructor's.
os.environ.setdefault("COURSE_DATA", "progress")
c = get_config()  # noqa: F821  (traitlets calls this file with it)
c.CourseDirectory.course_id = "ascend-inference-course"
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("replace this line by your answer")'
}
c.ClearSolutions.enforce_metadata = True
