"""This machine's measured limits: bytes per second out of memory, operations per second of a matrix product.

The two limits are the two lines of a roofline (Williams, Waterman and Patterson, 2009,
doi:10.1145/1498765.1498785). A short run measures both once per device, dtype and number of threads, and
keeps them in the cache folder.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict

import torch

from helpers.estimates.ceilings import Ceilings
from helpers.machine.stopwatch import Stopwatch
from helpers.native import large_pages
from helpers.native.matrices import Plain, can_read, product
from helpers.ops import by_device as ops
from helpers.ops.torch_ops import pack_weight
from helpers.storage.files import cache_folder, replacing

_REPEATS = 5
_METHOD = "best product, large pages"
"""Part of a kept measurement's key, so that a measurement taken in another way does not count."""


def host_ceilings(
    device: torch.device, dtype: torch.dtype = torch.float32, *, again: bool = False
) -> Ceilings:
    """Return the device's measured ceilings; those in the cache folder are taken again only with `again`."""
    threads, version = torch.get_num_threads(), torch.__version__
    key = f"{platform.node()}, {device}, {dtype}, {threads} threads, torch {version}, {_METHOD}"
    known = _read()
    if again or key not in known:
        known[key] = asdict(Ceilings(measure_bandwidth(device), measure_flops(device, dtype)))
        _write(known)
    return Ceilings(**known[key])


def measure_bandwidth(device: torch.device, nbytes: int = 512 * 2**20) -> float:
    """Return the bytes per second at which the device reads `nbytes` of memory; the best of several runs.

    All threads work. The numbers have four bytes, whatever the model's dtype: on a CPU, a maximum of fp32
    numbers costs next to no arithmetic, a maximum of bf16 numbers costs some. A CPU reads from large pages,
    in which the weights of native passes lie.
    """
    shape = (4096, nbytes // 4096 // 4)
    rows = torch.ones(shape, device=device)
    if device.type == "cpu":
        rows = large_pages.copied(rows)
    return rows.nbytes / _best_time(device, lambda: rows.amax(dim=1))


def measure_flops(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """Return the operations per second of a product of two square matrices; the best of several runs.

    The matrices are `size` x `size`. The second lies as the model's weights do: packed for torch's own product, in
    tiles for the native one. The faster product counts.
    """
    left = torch.randn(size, size, device=device).to(dtype)
    right = pack_weight(left.clone())
    best = _best_time(device, lambda: ops.linear(left, right))
    if device.type == "cpu" and can_read(left):
        wide, tiles = left.float(), Plain.pack(left)
        best = min(best, _best_time(device, lambda: product(wide, tiles)))
    return 2 * size**3 / best


def _best_time(device: torch.device, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several runs, after one that does not count.

    Other processes can only make a run slower, so the fastest run is the best estimate.
    """
    work()
    times = []
    for _ in range(_REPEATS):
        with Stopwatch(device) as watch:
            work()
        times.append(watch.seconds)
    return min(times)


def _read() -> dict[str, dict[str, float]]:
    """Return what was measured before; an empty dict when the file cannot be read."""
    try:
        stored = json.loads((cache_folder() / "ceilings.json").read_text())
        return {
            str(key): {"bandwidth": float(v["bandwidth"]), "flops": float(v["flops"])}
            for key, v in stored.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(known: dict[str, dict[str, float]]) -> None:
    """Keep the measurements; where the folder cannot be written, the next process measures again."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with replacing(cache_folder() / "ceilings.json") as temporary:
            temporary.write_text(json.dumps(known, indent=1))
    except OSError:
        return
