"""As whom learners' servers run: each as a user of its own where that can be, else all as the person who starts the class."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.classroom.folder import ROOT

FIRST_UID = 61000
"""The user id of the first learner; no account needs it."""


def first_uid(folder: Path, cache: Path, one_user: bool) -> tuple[int, str]:
    """Return the first learner's user id, 0 for none, and a sentence that says how it is."""
    shared = "all servers run as you: learners can reach each other's files, and yours"
    if one_user or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return 0, shared
    hidden = unreadable([folder.parent, ROOT / "helpers", cache, Path(sys.prefix)], FIRST_UID)
    if hidden:
        return 0, f"{shared} (another user cannot read {hidden})"
    return FIRST_UID, "each server runs as a user of its own, to which library and model are read-only"


def unreadable(paths: list[Path], uid: int) -> str:
    """Return the first of the paths, or the Python itself, that a user cannot read; empty where all is well."""
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    code = "import os, sys; print(next((p for p in sys.argv[1:] if not os.access(p, os.R_OK | os.X_OK)), ''))"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, *map(str, paths)],
            user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return sys.executable
    return done.stdout.strip() if done.returncode == 0 else sys.executable
