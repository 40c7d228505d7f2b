"""Shared by all tests, nbval's kernels included."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import helpers  # noqa: F401  (sets the environment that torch reads at import, before anything imports torch)

# Neither time nor chance decides a test: no deadline, no complaint of slow drawing, the same examples in every run.
settings.register_profile(
    "course", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("course")
# A figure whose tick labels overlap is an error, in nbval's kernels as well.
os.environ["COURSE_STRICT_FIGURES"] = "1"
# A lab that runs in a test is nobody's progress.
os.environ["COURSE_DATA"] = tempfile.mkdtemp(prefix="course-data-")
atexit.register(shutil.rmtree, os.environ["COURSE_DATA"], ignore_errors=True)

# What takes longest comes first, so that two workers, which take whole files, end together. Chapters take
# half a minute to two, and these files start many programs or kernels; most others take a few seconds.
TESTS = Path(__file__).resolve().parent
CHAPTERS = TESTS.parent / "notebooks"
LONG = [
    TESTS / name
    for name in (
        "labs/test_machinery.py",
        "test_course.py",
        "labs/test_nbgrader.py",
        "test_notebooks.py",
        "test_classroom.py",
        "grading/test_submission.py",
        "grading/test_judge.py",
    )
]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test, its fixtures included, with the same random numbers, whatever ran before in its worker."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.default_generator.manual_seed(0)


def rank(item: pytest.Item) -> int:
    """Return which file comes when: 0 for chapters, then 1, then 2 for all others."""
    return 0 if item.path.parent == CHAPTERS else 1 if item.path in LONG else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; within a file the order stays."""
    items.sort(key=rank)
