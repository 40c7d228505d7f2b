"""The device: which one, waiting for it, timing on it, and how much of its memory is in use."""

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
    """The device to run on: `name`, or `COURSE_DEVICE`, or the first of npu, cuda, cpu that is here.

    `emulated-npu`, which must be asked for, starts the emulated NPU (`helpers.emulated_npu`) and is an `npu` from then on.
    Raises ValueError for a name that is unknown and RuntimeError for a device that is asked for and absent.
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
    """Waits until the device has done all that it was given; a CPU has nothing outstanding."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def total_memory(device: torch.device) -> int:
    """Bytes of memory that the device (for a CPU: the machine) has."""
    if device.type == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(torch.accelerator.get_memory_info(device)[1])


def describe(device: torch.device) -> str:
    """A short name for the device, with its memory in GiB."""
    kind = "CPU" if device.type == "cpu" else torch.get_device_module(device).get_device_name(device)
    kind = f"emulated NPU as {kind} (times mean nothing)" if is_emulated(device) else kind
    threads = torch.get_num_threads()
    cores = f", {threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else ""
    return f"{kind}{cores}, {total_memory(device) / 2**30:.1f} GiB"


def is_emulated(device: torch.device) -> bool:
    """Whether the device is the emulated NPU."""
    module = sys.modules.get("helpers.emulated_npu.emulation")
    return device.type == "npu" and module is not None and bool(module.is_running())


def repeats(device: torch.device, wanted: int) -> int:
    """How often to time something: `wanted`, or once on the emulated NPU, whose times mean nothing."""
    return 1 if is_emulated(device) else wanted


def where_it_ran(device: torch.device) -> str:
    """One sentence on which hardware a result comes from, for every section that speaks of NPUs."""
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
    """Whether torch can use a device of that kind here; torch_npu is imported only where an NPU's driver is."""
    if kind == "npu" and not _load_torch_npu():
        return False
    return kind == "cpu" or bool(torch.get_device_module(kind).is_available())


def _first_present() -> str:
    """The best kind of device that is here."""
    return next(kind for kind in _NAMES if _present(kind))


def _load_torch_npu() -> bool:
    """Whether there is an Ascend driver and a torch_npu, which is then imported (it adds `torch.npu`), or the emulated NPU."""
    if is_emulated(torch.device("npu") if hasattr(torch, "npu") else torch.device("cpu")):
        return True
    has_driver = any(Path("/dev").glob("davinci[0-9]*"))
    if not has_driver or importlib.util.find_spec("torch_npu") is None:
        return False
    importlib.import_module("torch_npu")
    return True
