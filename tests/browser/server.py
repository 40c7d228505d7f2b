"""A JupyterLab, started as `course.py lab` starts it, on a copy of the course that may be changed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

import course
from tests.browser.finding import browser
from tests.browser.lab import Lab
from tests.browser.slices import panel_cells
from tools import notebooks as nbs

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 200_000  # ms in which anything happens, on a busy machine, too
PANELS_OF = "panels_of_"  # the beginning of the name of a notebook that holds what a chapter's panels need
COPIED = ("notebooks", "labs", "solutions", "tools", "docs", "helpers", "README.md", "LICENSE")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextlib.contextmanager
def jupyterlab(folder: Path) -> Iterator[tuple[str, str]]:
    """URL and token of a running JupyterLab; `folder` takes the copy, its settings and its log."""
    copy, log = folder / "course", (folder / "jupyterlab.log").open("w")
    for name in COPIED:
        (shutil.copytree if (ROOT / name).is_dir() else _copy_file)(ROOT / name, copy / name)
    for notebook in sorted((copy / "notebooks").glob("*.ipynb")):
        nbformat.write(panel_cells(nbs.read(notebook)), notebook.with_name(f"{PANELS_OF}{notebook.name}"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, url = secrets.token_hex(8), f"http://127.0.0.1:{port}"
    words = [word.replace(str(course.ROOT), str(copy)) for word in course.COMMANDS["lab"]]
    words += ["--no-browser", f"--ServerApp.port={port}", f"--IdentityProvider.token={token}"]
    own = {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("WORKSPACES", "SETTINGS")}
    environment = {**os.environ, **own, "COURSE_DATA": str(folder / "data")}
    running = subprocess.Popen([sys.executable, *words], cwd=copy, stdout=log, stderr=log, env=environment)
    try:
        _wait(f"{url}/api?token={token}", running)
        yield url, token
    finally:
        running.terminate()
        running.wait(200)
        log.close()


@contextlib.contextmanager
def page_on(url: str, token: str, screenshots: Path) -> Iterator[Lab]:
    """A browser page on it."""
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=browser(), args=QUIET)
        page = program.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(LIMIT)
        page.set_default_navigation_timeout(LIMIT)
        yield Lab(page, url, token, screenshots)
        program.close()


def _copy_file(source: Path, target: Path) -> None:
    """One file, into a folder that is made when it is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _wait(url: str, running: subprocess.Popen[bytes], seconds: float = 400) -> None:
    """Until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and running.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=30).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError("JupyterLab did not start; see jupyterlab.log in pytest's folder")
