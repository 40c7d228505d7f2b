"""The caches of processors: of a server's core as its maker states them, and of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helpers.estimates.figure import Status


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
