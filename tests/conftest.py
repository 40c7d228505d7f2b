"""Shared by all tests, nbval's kernels included."""

import atexit
import os
import shutil
import tempfile

import helpers  # noqa: F401  (sets the environment that torch reads at import, before anything imports torch)

# A lab that runs in a test is nobody's progress.
os.environ["COURSE_DATA"] = tempfile.mkdtemp(prefix="course-data-")
atexit.register(shutil.rmtree, os.environ["COURSE_DATA"], ignore_errors=True)
