"""Accelerators as data: memory, bandwidth, peak rates, on-chip buffers.

Each figure with its source and its status.

How far to trust a figure:

- official: read from a file or page of the maker.
- derived: computed here from official figures.
- reported: said by the maker's paper or talk, or by the press; not checked here.
- measured: timed on the hardware.
- unknown: no usable figure was found, and `value` is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from helpers.estimates.units import GiB

Status = Literal["official", "derived", "reported", "measured", "unknown"]
_INI = "CANN platform configuration file"
_DERIVED = "cube cores x 16^3 x 2 x clock, from the CANN platform configuration file"
_CLOUDMATRIX = "CloudMatrix384, arXiv:2506.12708"
_CONNECT = "Huawei Connect 2025"


@dataclass(frozen=True)
class Figure:
    """One number, its unit, and why to believe it."""

    value: float | None
    unit: str
    status: Status
    source: str


@dataclass(frozen=True)
class Buffers:
    """On-chip memory of one Da Vinci core in KiB (official): what a tile of an operator must fit into."""

    l1: int
    l0a: int
    l0b: int
    l0c: int
    ub: int


@dataclass(frozen=True)
class Handover:
    """How scores get from a core's cube unit to its vector unit, and weights back."""

    through_memory: bool
    """By way of device memory, where a workspace small enough stays in the L2 cache; else inside the core."""
    status: Status
    source: str


@dataclass(frozen=True)
class Accelerator:
    """One device as a program sees it (of a 910C package: one of its two dies)."""

    name: str
    cube_cores: int
    vector_cores: int
    clock_mhz: int
    memory: Figure
    """Bytes."""
    bandwidth: Figure
    """Bytes per second of device memory."""
    l2_mib: int
    buffers: Buffers
    handover: Handover
    fp8: bool = False
    """Whether the cube computes fp8, at int8's rate."""

    def peak(self, dtype: str) -> Figure:
        """Return the peak multiply-add rate of the cube units in operations per second.

        Raise ValueError for a type without a rate.

        One cube core does a 16 x 16 x 16 product of 16-bit numbers each clock, 8-bit ones at twice the rate.
        """
        factor = {"fp16": 1, "bf16": 1, "int8": 2, **({"fp8": 2} if self.fp8 else {})}.get(dtype)
        if factor is None or (dtype == "bf16" and self.name.startswith("Ascend 310")):
            raise ValueError(f"{self.name} has no {dtype} cube rate here")
        rate = self.cube_cores * 16**3 * 2 * self.clock_mhz * 1e6 * factor
        return Figure(rate, "op/s", "derived", _DERIVED)


_A2 = Buffers(l1=512, l0a=64, l0b=64, l0c=128, ub=192)
_310 = Buffers(l1=1024, l0a=64, l0b=64, l0c=256, ub=256)
_950 = Buffers(l1=512, l0a=64, l0b=64, l0c=256, ub=248)
_SPLIT = Handover(True, "official", f"{_INI}: cube_vector_combine=split")
_FUSED = Handover(False, "official", f"{_INI}: cube_vector_combine=fuse")
_PATH = Handover(False, "reported", "Triton-Ascend's documents: a path from L0C to UB; the cores are split")
_NO_BANDWIDTH = Figure(None, "B/s", "unknown", "no published figure found; measure it with a copy")


def _gib(size: float) -> Figure:
    """Return device memory as the configuration file states it."""
    return Figure(size * GiB, "B", "official", _INI)


def _reported(rate: float, source: str) -> Figure:
    """Return a bandwidth that a source reports, in B/s."""
    return Figure(rate, "B/s", "reported", source)


ACCELERATORS = {
    item.name: item
    for item in (
        Accelerator("Ascend 910B1", 24, 48, 1850, _gib(64), _NO_BANDWIDTH, 192, _A2, _SPLIT),
        Accelerator("Ascend 910B2", 24, 48, 1800, _gib(64), _NO_BANDWIDTH, 192, _A2, _SPLIT),
        Accelerator("Ascend 910B3", 20, 40, 1800, _gib(64), _NO_BANDWIDTH, 192, _A2, _SPLIT),
        Accelerator("Ascend 910B4", 20, 40, 1500, _gib(32), _NO_BANDWIDTH, 96, _A2, _SPLIT),
        Accelerator("Ascend 910C (one die)", 24, 48, 1850, _gib(64), _reported(1.6e12, _CLOUDMATRIX), 192, _A2, _SPLIT),
        Accelerator(
            "Ascend 310P3", 8, 7, 1060, Figure(24e9, "B", "official", _INI),
            _reported(204e9, "half of the Atlas 300I Duo's 408 GB/s"), 16, _310, _FUSED,
        ),
        Accelerator("Ascend 950PR", 32, 64, 1650, _gib(128), _reported(1.6e12, _CONNECT), 128, _950, _PATH, fp8=True),
        Accelerator("Ascend 950DT", 32, 64, 1650, _gib(144), _reported(4.0e12, _CONNECT), 128, _950, _PATH, fp8=True),
    )
}  # fmt: skip


@dataclass(frozen=True)
class HostCaches:
    """The data caches that one core of a processor reaches, in KiB; `l3` is shared by several cores."""

    name: str
    l1: int
    l2: int
    l3: int
    status: Status
    source: str


SERVER_CORE = HostCaches(
    "server processor (AMD Zen 3)", 32, 512, 32 * 1024, "reported",
    "AMD, Software Optimization Guide for EPYC 7003 Processors, publication 56665",
)  # fmt: skip


def this_host() -> HostCaches | None:
    """Return the caches of this machine's first core, where Linux tells them; None elsewhere."""
    found = {}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[level] = int(size[:-1])
    if not {"1", "2", "3"} <= found.keys():
        return None
    return HostCaches("this machine", found["1"], found["2"], found["3"], "measured", "Linux: cpu0/cache")


def accelerator(name: str) -> Accelerator:
    """Return the table's row of that name; raise ValueError with the known names for another."""
    if name not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {name!r}; known are {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]
