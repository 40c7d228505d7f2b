"""The device: choosing one, waiting for its work, its name, and the size of its memory."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import torch

_NAMES = ("npu", "cuda", "cpu")
_EMULATED = "emulated-npu"


def choose_device(name: torch.device | str | None = None) -> torch.device:
    """Return the device to use: `name`, or `COURSE_DEVICE`, or the first of npu, cuda, cpu that is present.

    The name `emulated-npu` starts the emulated NPU (`helpers.emulated_npu`), which is an `npu` from then on.
    Raises ValueError for an unknown name, and RuntimeError for a device that is asked for and absent.
    """
    wanted = str(name or os.environ.get("COURSE_DEVICE", "").strip() or _first_present())
    if wanted == _EMULATED:
        importlib.import_module("helpers.emulated_npu.control").start()
        return torch.device("npu", 0)
    kind = wanted.split(":")[0]
    if kind not in _NAMES:
        known = ", ".join((*_NAMES, _EMULATED))
        raise ValueError(f"unknown device {wanted!r}; COURSE_DEVICE may be one of {known}")
    if not _present(kind):
        raise RuntimeError(f"device {wanted!r} was asked for, but there is none that torch can use")
    return torch.device(wanted)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work; a CPU has no work outstanding."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def total_memory(device: torch.device) -> int:
    """Return the bytes of memory that the device has; for a CPU, those of the machine."""
    if device.type == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(torch.accelerator.get_memory_info(device)[1])


def describe(device: torch.device) -> str:
    """Return a short name for the device, with the device's memory in GiB."""
    kind = "CPU" if device.type == "cpu" else torch.get_device_module(device).get_device_name(device)
    kind = f"emulated NPU as {kind} (times mean nothing)" if is_emulated(device) else kind
    threads = torch.get_num_threads()
    cores = f", {threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else ""
    return f"{kind}{cores}, {total_memory(device) / 2**30:.1f} GiB"


def is_emulated(device: torch.device) -> bool:
    """Return whether the device is the emulated NPU."""
    module = sys.modules.get("helpers.emulated_npu.emulation")
    return device.type == "npu" and module is not None and bool(module.is_running())


def repeats(device: torch.device, wanted: int) -> int:
    """Return how often to time something: `wanted`, or 1 on the emulated NPU, whose times mean nothing."""
    return 1 if is_emulated(device) else wanted


def where_it_ran(device: torch.device) -> str:
    """Return one sentence that says which hardware a result comes from, for every section about NPUs."""
    if is_emulated(device):
        return (
            "This ran on the emulated NPU: results are real torch_npu semantics, times mean nothing. "
            "Nothing in this chapter has run on real Ascend hardware yet."
        )
    if device.type == "npu":
        return f"This ran on {describe(device)}. Please report it: no result from real Ascend hardware is known yet."
    return (
        f"This ran on a {device.type.upper()}; nothing in this chapter has run on real Ascend hardware yet."
    )


def _present(kind: str) -> bool:
    """Return whether torch can use a device of that kind here.

    torch_npu is imported only where the driver of an NPU is installed.
    """
    if kind == "npu" and not _load_torch_npu():
        return False
    return kind == "cpu" or bool(torch.get_device_module(kind).is_available())


def _first_present() -> str:
    """Return the first kind of device that is present, in the order npu, cuda, cpu."""
    return next(kind for kind in _NAMES if _present(kind))


def _load_torch_npu() -> bool:
    """Import torch_npu where an Ascend driver is installed; return whether there is an NPU to ask for.

    The import adds `torch.npu`. A running emulated NPU has imported torch_npu already.
    """
    if is_emulated(torch.device("npu") if hasattr(torch, "npu") else torch.device("cpu")):
        return True
    has_driver = any(Path("/dev").glob("davinci[0-9]*"))
    if not has_driver or importlib.util.find_spec("torch_npu") is None:
        return False
    importlib.import_module("torch_npu")
    return True
