"""What this machine can do at best, measured: bytes per second out of memory, and operations per second of a matrix product.

They are the two lines of a roofline (Williams, Waterman and Patterson, 2009, doi:10.1145/1498765.1498785). A short run
measures them once per device, dtype and number of threads, and keeps them in the cache folder.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from helpers import ops
from helpers.device import Stopwatch
from helpers.files import cache_folder, replacing
from helpers.hardware import accelerator

_REPEATS = 5
_METHOD = "packed product"
"""Part of what a kept measurement is known by: one taken in another way does not count."""


@dataclass(frozen=True)
class Ceilings:
    """The two ceilings of a device for one dtype."""

    bandwidth: float
    """Bytes read per second, from an array far larger than any cache."""
    flops: float
    """Floating-point operations per second of a large square matrix product; a multiply-add counts as two."""

    @property
    def ridge(self) -> float:
        """The arithmetic intensity, in operations per byte, above which the device is bound by compute."""
        return self.flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """The most operations per second that work of this intensity (operations per byte) can reach."""
        return min(self.flops, intensity * self.bandwidth)

    def seconds(self, operations: float, nbytes: float) -> float:
        """The least time that work of so many operations and bytes can take."""
        return max(operations / self.flops, nbytes / self.bandwidth)


def host_ceilings(
    device: torch.device, dtype: torch.dtype = torch.float32, *, again: bool = False
) -> Ceilings:
    """The device's measured ceilings; from the cache folder where they were measured before, unless `again`."""
    threads, version = torch.get_num_threads(), torch.__version__
    key = f"{platform.node()}, {device}, {dtype}, {threads} threads, torch {version}, {_METHOD}"
    known = _read()
    if again or key not in known:
        known[key] = asdict(Ceilings(measure_bandwidth(device), measure_flops(device, dtype)))
        _write(known)
    return Ceilings(**known[key])


def accelerator_ceilings(name: str, dtype: str = "bf16", bandwidth: float | None = None) -> Ceilings:
    """The ceilings of an accelerator of `helpers.hardware`, derived or reported, not measured; `bandwidth` replaces the table's.

    Raises ValueError for an unknown name or type, and where neither the table nor the caller knows a bandwidth.
    """
    item = accelerator(name)
    known = item.bandwidth.value if bandwidth is None else bandwidth
    if known is None or known <= 0:
        raise ValueError(f"{name}: no bandwidth is published, give one in bytes per second (got {bandwidth})")
    return Ceilings(known, item.peak(dtype).value or 0.0)


def measure_bandwidth(device: torch.device, nbytes: int = 512 * 2**20) -> float:
    """Bytes per second at which the device reads `nbytes` of memory once, all threads at work; the best of several runs.

    Numbers of four bytes, whatever the model's: their maximum costs next to no arithmetic, that of bf16 does on a CPU.
    """
    rows = torch.ones(4096, nbytes // 4096 // 4, device=device)
    return rows.nbytes / _best_time(device, lambda: rows.amax(dim=1))


def measure_flops(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """Operations per second of a product of two `size` x `size` matrices, the second packed; the best of several runs."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = ops.pack_weight(left.clone())
    return 2 * size**3 / _best_time(device, lambda: ops.linear(left, right))


def _best_time(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, after one that does not count: others' interference only slows down."""
    work()
    times = []
    for _ in range(_REPEATS):
        with Stopwatch(device) as watch:
            work()
        times.append(watch.seconds)
    return min(times)


def _read() -> dict[str, dict[str, float]]:
    """What was measured before; nothing when it cannot be read."""
    try:
        stored = json.loads((cache_folder() / "ceilings.json").read_text())
        return {
            str(key): {"bandwidth": float(v["bandwidth"]), "flops": float(v["flops"])}
            for key, v in stored.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(known: dict[str, dict[str, float]]) -> None:
    """Keeps the measurements; a folder that cannot be written costs a measurement the next time, nothing else."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with replacing(cache_folder() / "ceilings.json") as temporary:
            temporary.write_text(json.dumps(known, indent=1))
    except OSError:
        return
