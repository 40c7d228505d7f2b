"""What a program tells the emulated NPU: start, trace, limit its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from helpers.emulated_npu.emulation import emulation


def start() -> None:
    """Make `torch.npu` work here: build the stand-in for CANN (once), load it and import torch_npu.

    A second call does nothing. Raises RuntimeError when torch_npu, a C compiler or the platform is missing, when a
    real NPU is there, and when torch_npu was imported already.
    """
    emulation()


@contextmanager
def trace(launched: bool = False) -> Iterator[list[str]]:
    """Yield the names of the kernels that run in the block, such as `aclnnRmsNorm`: `with trace() as names: ...`.

    With `launched`, yield instead the names of those that the host launches in the block. A graph's replay runs
    its kernels without launching one of them; an update of a graph's lengths launches each updated kernel anew.
    """
    with emulation().trace(launched) as names:
        yield names


def set_capacity(nbytes: int) -> None:
    """Cap the device's memory in bytes (64 GiB at first); torch.OutOfMemoryError follows where torch_npu
    needs more.
    """
    emulation().runtime.set_capacity(nbytes)


def used() -> int:
    """Return the bytes that torch_npu holds on the device, whole segments, by the emulated CANN's own count."""
    return emulation().runtime.used(0)


def operators() -> list[str]:
    """Return the names of the aclnn operators that are emulated and that this torch_npu knows."""
    return emulation().operators
