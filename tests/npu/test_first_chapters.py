"""Chapters 0 to 2 run on the emulated NPU from top to bottom. The others are in a file of their own, for a second worker."""

from __future__ import annotations

import pytest

from tests.npu import chapters
from tools import notebooks as nbs


@pytest.mark.parametrize("chapter", chapters.WHOLE)
def test_a_chapter_runs(chapter):
    chapters.run(chapter)


def test_no_cell_is_left_out():
    for chapter in chapters.WHOLE:
        assert chapters.SKIPPED not in (nbs.ROOT / "notebooks" / "src" / f"{chapter}.py").read_text()
