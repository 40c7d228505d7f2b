"""Chapters 3 and later run on the emulated NPU, but for cells that only measure or whose proof is a test of its own."""

from __future__ import annotations

import pytest

from tests.npu import chapters


@pytest.mark.parametrize("chapter", [name for name in chapters.CHAPTERS if name not in chapters.WHOLE])
def test_a_chapter_runs(chapter):
    chapters.run(chapter)
