"""A submission as cells in order, and its grading in processes of its own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass

LIBRARY = __name__.partition(".")[0]
CHECKS = f"{LIBRARY}.checks"
"""The name of the package that submitted code must not reach; nothing of it is imported here."""
SECONDS = 600
"""The longest that one submission may take."""


@dataclass(frozen=True)
class Cell:
    """A code cell: its name where nbgrader gives it one, its source, and whether it is a check that gives points."""

    name: str
    source: str
    is_check: bool


def grade(cells: Sequence[Cell]) -> dict[str, str]:
    """Return what is wrong with each check cell, by name; an empty text where the check holds.

    Submitted cells run in one process, without the checks; checks run in another, without the submitted code. The
    cases are drawn anew, unless `COURSE_CHECK_SEED` says otherwise.
    """
    asked = json.dumps([asdict(cell) for cell in cells])
    with tempfile.TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True) as folder:
        variables = {"COURSE_CHECK_SEED": "fresh", **os.environ, "COURSE_DATA": folder}
        try:
            done = subprocess.run(
                [sys.executable, "-m", str(__package__)], input=asked, cwd=folder, env=variables,
                capture_output=True, text=True, check=True, timeout=SECONDS,
            )  # fmt: skip
            return {str(name): str(text) for name, text in json.loads(done.stdout).items()}
        except subprocess.TimeoutExpired:
            wrong = f"it did not end within {SECONDS} seconds"
        except (subprocess.CalledProcessError, ValueError):
            wrong = "it could not be judged: the judge's process ended without a verdict"
    return {cell.name: wrong for cell in cells if cell.is_check}


def suspicious(source: str) -> list[str]:
    """Return the modules of the checks that a cell imports or names in a text, other than those of a lab."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic, or no Python at all
        return []
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.add(node.value.strip())
    inner = (f"{CHECKS}.machinery", f"{CHECKS}.families", str(__package__))
    return sorted(name for name in named if name.startswith(inner))
