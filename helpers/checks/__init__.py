"""Checks of the labs: one file per lab; each check tries a learner's answer and names the likely mistake."""

from helpers.checks.machinery.failure import CheckFailed
from helpers.checks.machinery.limit import attempt
from helpers.checks.machinery.pretend import PretendEngine
from helpers.checks.machinery.record import progress, reset_progress

__all__ = ["CheckFailed", "PretendEngine", "attempt", "progress", "reset_progress"]
