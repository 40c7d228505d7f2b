"""A browser is found, named, or installed where that asks nobody; and nothing fails where there is none."""

import os
import sys
from pathlib import Path

import pytest

from tests.browser import finding

DONE, FAILS = [sys.executable, "-c", ""], [sys.executable, "-c", "raise SystemExit(1)"]
SLOW, NOT_THERE = [sys.executable, "-c", "import time; time.sleep(60)"], ["no-such-program"]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser whose user is root."""
    monkeypatch.delenv("COURSE_BROWSER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(finding, "MAC", "no-such-program")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def add(folder: Path, name: str) -> str:
    """A program of that name."""
    program = folder / name
    program.touch(mode=0o755)
    return str(program)


def test_a_browser_on_the_path_is_found(empty: Path) -> None:
    assert finding.browser() is None
    program = add(empty, "google-chrome")
    assert finding.browser() == program


def test_a_named_browser_is_the_only_one(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(empty, "chromium")
    monkeypatch.setenv("COURSE_BROWSER", add(empty, "mine"))
    assert finding.browser() == str(empty / "mine")
    monkeypatch.setenv("COURSE_BROWSER", "not-there")
    assert finding.browser() is None
    assert finding.install([DONE]) is None, "who names a browser is not given another one"


def test_what_cannot_be_installed_is_no_error(empty: Path) -> None:
    for failing in (FAILS, NOT_THERE, SLOW):
        add(
            empty, "chromium"
        ) if failing is SLOW else None  # though it is there: the command did not end well
        assert finding.install([DONE, failing], seconds=1) is None


def test_an_installed_one_is_found(empty: Path) -> None:
    code = f"import pathlib; pathlib.Path({str(empty / 'chromium')!r}).touch(mode=0o755)"
    assert finding.install([DONE, [sys.executable, "-c", code]]) == str(empty / "chromium")


def test_only_root_installs(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code = f"import pathlib; pathlib.Path({str(empty / 'chromium')!r}).touch(mode=0o755)"
    assert finding.install([[sys.executable, "-c", code]]) is None
    assert not (empty / "chromium").exists()
