"""Checks of the labs: one file per lab; each check tries a learner's answer and names the likely mistake."""

from helpers.checks.core import CheckFailed
from helpers.checks.record import progress, reset_progress

__all__ = ["CheckFailed", "progress", "reset_progress"]
