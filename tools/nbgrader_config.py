"""nbgrader's settings, for `tools/make_labs.py` and for an instructor's own nbgrader commands."""

c = get_config()  # noqa: F821  (traitlets calls this file with it)
c.CourseDirectory.course_id = "ascend-inference-course"
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("replace this line by your answer")'
}
c.ClearSolutions.enforce_metadata = True
