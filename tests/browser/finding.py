"""Which browser there is, and how one is had where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
PATIENCE = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20")
APT = (
    ("apt-get", "update", *PATIENCE),
    ("apt-get", "install", "-y", "--no-install-recommends", *PATIENCE, "chromium"),
)
NONE = "no Chromium or Chrome was found (on Debian and Ubuntu: apt install chromium)"


def browser() -> str | None:
    """The program of an installed Chromium or Chrome; `COURSE_BROWSER` names another one. None when there is none."""
    named = os.environ.get("COURSE_BROWSER")
    candidates = [named] if named else [*NAMES, MAC]
    return next((found for name in candidates if (found := shutil.which(name))), None)


def install(commands: Sequence[Sequence[str]] = APT, seconds: float = 240) -> str | None:
    """The browser that Debian's package manager has just installed; None where that cannot be done, whatever the reason.

    Only as root, as in a container: nothing is asked of a person, and no machine of a person's is changed.
    """
    if "COURSE_BROWSER" in os.environ or os.name != "posix" or os.geteuid() != 0:
        return None
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in commands:
            subprocess.run(command, env=quiet, timeout=seconds, check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return browser()
