"""Starts the emulated NPU once for this folder; skips the folder where that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers import emulated_npu
from helpers.emulated_npu.build import libraries


def _missing() -> str:
    """Why there is no emulated NPU here; empty where there is one."""
    try:
        libraries()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


MISSING = _missing()
if not MISSING:
    emulated_npu.start()  # before any test module: where torch_npu is installed, transformers imports it


class _Skipped(pytest.Module):
    """A test module that is not even imported."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skips every module of this folder when something is missing."""
    return _Skipped.from_parent(parent, path=module_path) if MISSING else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The chapters first, as they take longest: two workers then end at the same time."""
    items.sort(key=lambda item: not item.path.stem.endswith("_chapters"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
