"""What a submitted lab is worth: checks run in one process, the submitted code in another. For instructors, with nbgrader."""

from helpers.grading.guard import protect, protect_kernel
from helpers.grading.submission import Cell, grade, suspicious

__all__ = ["Cell", "grade", "protect", "protect_kernel", "suspicious"]
