"""Which exercises a learner has done: kept in the user's data folder, so that closing a notebook loses nothing."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import platformdirs

from helpers.checks.machinery.exercises import EXERCISES
from helpers.display.tables import Table
from helpers.storage.files import replacing


def _file() -> Path:
    """Return where the record is: in `COURSE_DATA`, or the platform's data folder for a user."""
    named = os.environ.get("COURSE_DATA", "").strip()
    folder = (
        Path(named).expanduser() if named else Path(platformdirs.user_data_dir("ascend-inference-course"))
    )
    return folder / "progress.json"


def done() -> dict[str, list[int]]:
    """Return the numbers of the exercises done, by lab; empty when nothing can be read."""
    try:
        stored = json.loads(_file().read_text())
        return {str(lab): [int(number) for number in numbers] for lab, numbers in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def add(lab: str, number: int) -> None:
    """Record one exercise as done. A folder that cannot be written costs the record, never the lab."""
    record = done()
    record[lab] = sorted({*record.get(lab, []), number})
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        with replacing(_file()) as temporary:
            temporary.write_text(json.dumps(record))
    except OSError:
        return


def reset_progress(lab: str | None = None) -> None:
    """Forget what was done, in one lab or in all."""
    record = {name: numbers for name, numbers in done().items() if lab is not None and name != lab}
    if _file().exists():
        with replacing(_file()) as temporary:
            temporary.write_text(json.dumps(record))


def progress(lab: str | None = None) -> Table:
    """Return one row for each exercise of one lab (its file's name), or of all labs, with whether it is done."""
    for file in Path(__file__).parent.parent.glob("lab*.py"):  # a lab's file registers its exercises
        importlib.import_module(f"helpers.checks.{file.stem}")
    record = done()
    rows = [
        (item.lab, f"{item.number}", item.title, "done" if item.number in record.get(item.lab, []) else "")
        for item in sorted(EXERCISES, key=lambda item: (item.lab, item.number))
        if lab in (None, item.lab)
    ]
    return Table(("lab", "exercise", "title", "state"), rows)
