"""What this machine can do at best, measured: bytes per second out of memory, and operations per second of a matrix product.

They are the two lines of a roofline (Williams, Waterman and Patterson, 2009, doi:10.1145/1498765.1498785). A short run
measures them once per device, dtype and number of threads, and keeps them in the cache folder.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict

import torch

from helpers.estimates.ceilings import Ceilings
from helpers.machine.stopwatch import Stopwatch
from helpers.ops import by_device as ops
from helpers.ops.torch_ops import pack_weight
from helpers.storage.files import cache_folder, replacing

_REPEATS = 5
_METHOD = "packed product"
"""Part of what a kept measurement is known by: one taken in another way does not count."""


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


def measure_bandwidth(device: torch.device, nbytes: int = 512 * 2**20) -> float:
    """Bytes per second at which the device reads `nbytes` of memory once, all threads at work; the best of several runs.

    Numbers of four bytes, whatever the model's: their maximum costs next to no arithmetic, that of bf16 does on a CPU.
    """
    rows = torch.ones(4096, nbytes // 4096 // 4, device=device)
    return rows.nbytes / _best_time(device, lambda: rows.amax(dim=1))


def measure_flops(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """Operations per second of a product of two `size` x `size` matrices, the second packed; the best of several runs."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = pack_weight(left.clone())
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
