"""Graders draw cases anew for each submission; these tests draw the same ones in every run."""

import pytest


@pytest.fixture(autouse=True)
def _same_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_CHECK_SEED", "17")
