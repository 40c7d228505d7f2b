"""A running JupyterLab on a copy of the notebooks, and a browser. Without a browser all of this is skipped, with one line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import course
from tests.browser.finding import NONE, browser, install
from tests.browser.lab import Lab
from tests.browser.server import ROOT, jupyterlab, page_on

SCREENSHOTS = ROOT / "artifacts" / "browser"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A browser page on a running JupyterLab."""
    with course.locked():  # of several workers one installs, and the others wait
        found = browser() or install()
    if not found:
        pytest.skip(NONE)
    with (
        jupyterlab(tmp_path_factory.mktemp("lab")) as (url, token),
        page_on(url, token, SCREENSHOTS) as lab,
    ):
        yield lab
