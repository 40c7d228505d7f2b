"""Virtual environments of the rivals: one each, made on demand in the cache folder from pinned versions.

`environments/NAME.txt` is a requirements file in which every package is pinned, as `pip freeze` wrote it. An
environment whose file has changed is made anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import course
from benchmarks.rivals.process import RivalFailed
from helpers.storage import cache_folder

PINS = Path(__file__).parent / "environments"
QUIETLY = ("--quiet", "--disable-pip-version-check")


def folder() -> Path:
    """Return the folder of everything that the rivals need: environments, models, logs, answers."""
    return cache_folder() / "rivals"


def python_of(name: str) -> str:
    """Return the interpreter of an environment, made if need be; RivalFailed where that fails."""
    pins, where = (PINS / f"{name}.txt").read_text(), folder() / name
    made, python = where / "made-from.txt", where / "bin" / "python"
    if not (made.exists() and made.read_text() == pins):
        shutil.rmtree(where, ignore_errors=True)
        print(f"{name}: installing into {where} (once) ...", flush=True)
        _install(python, where, PINS / f"{name}.txt", pins)
        made.write_text(pins)
    return str(python)


def _install(python: Path, where: Path, file: Path, pins: str) -> None:
    """Make an environment; RivalFailed with pip's reason."""
    options = course.Environment().choose_torch() if "torch==" in pins else []
    commands = [
        [sys.executable, "-m", "venv", str(where)],
        [str(python), "-m", "pip", "install", *QUIETLY, "--no-deps", *options, "-r", str(file)],
    ]
    for command in commands:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
                "no reason given"
            ]
            raise RivalFailed(f"not installed: {' '.join(said[0].split())[:200]}")
