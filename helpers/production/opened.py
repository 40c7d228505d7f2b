"""The versions of production software whose files were opened for the facts of this package."""

from __future__ import annotations

from datetime import date

from helpers.production.source import Source

READ = date(2026, 11, 29)
OLD_VLLM, NEW_VLLM = "0.23.0", "0.33.0"
"""The oldest and the newest vLLM that were read: the partner of vLLM-Ascend 0.23.0, and the newest release."""
ASCEND_RELEASE, ASCEND_MAIN = "0.23.0", "main 182b75ea84 of 2026-08-22"
"""The newest release of vLLM-Ascend that was read, and its development branch."""
EARLIER = "0.23.0 or earlier"
"""What is known of the beginning of an option that the oldest version read already has."""


def vllm(*files: str) -> tuple[Source, ...]:
    """Return files of the Python package vllm, in the oldest and in the newest version."""
    return tuple(
        Source("vLLM", version, f"vllm/{file}", READ) for file in files for version in (OLD_VLLM, NEW_VLLM)
    )


def new_vllm(*files: str) -> tuple[Source, ...]:
    """Return files of the Python package vllm, in the newest version alone."""
    return tuple(Source("vLLM", NEW_VLLM, f"vllm/{file}", READ) for file in files)


def ascend(*files: str, versions: tuple[str, ...] = (ASCEND_RELEASE, ASCEND_MAIN)) -> tuple[Source, ...]:
    """Return files of the repository vllm-project/vllm-ascend, in the release and on the branch main."""
    return tuple(Source("vLLM-Ascend", version, file, READ) for file in files for version in versions)


def torch_npu(*files: str) -> tuple[Source, ...]:
    """Return files of the repository Ascend/pytorch, torch_npu's own."""
    return tuple(Source("torch_npu", "master 9e73e708ab of 2026-08-21", file, READ) for file in files)
