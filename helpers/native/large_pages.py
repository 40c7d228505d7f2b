"""Memory in large pages (2 MiB on most processors), for weights that each pass reads from end to end.

A processor looks up where each page of memory lies, and asks for the next lines of memory within a page only. In pages
of 4 KiB, both cost time thousands of times a pass. `benchmarks/native.py` measures whole passes.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading

import torch
from torch import Tensor

_PAGE, _LINE = 1 << 21, 64
_REGION = 32 << 20
_PRIVATE: dict[str, int] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
)
_lock = threading.Lock()
_region: mmap.mmap | bytearray = bytearray()
_next = _end = 0  # where the next tensor begins in the region, and where the region ends


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor without values on the CPU, in large pages where the system has them.

    Tensors share regions of 32 MiB, one behind the other. A region is given back when no tensor lies in it.
    """
    count = math.prod(shape)
    nbytes = count * dtype.itemsize
    global _region, _next, _end
    with _lock:
        if _next + nbytes > _end:
            _region, _next, _end = _mapped(max(nbytes, _REGION))
        tensor = torch.frombuffer(_region, dtype=dtype, count=count, offset=_next)
        _next += -(-nbytes // _LINE) * _LINE
    return tensor.view(shape)


def copied(tensor: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor of the CPU in large pages; of another device, the tensor, contiguous."""
    if tensor.device.type != "cpu":
        return tensor.contiguous()
    return empty(tuple(tensor.shape), tensor.dtype).copy_(tensor)


def _mapped(nbytes: int) -> tuple[mmap.mmap, int, int]:
    """Return fresh memory, and where so many bytes of it begin, with a large page, and end."""
    memory = mmap.mmap(-1, nbytes + _PAGE, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without large pages: the same memory, in small ones
            memory.madvise(mmap.MADV_HUGEPAGE)
    begin = -torch.frombuffer(memory, dtype=torch.uint8).data_ptr() % _PAGE
    return memory, begin, begin + nbytes
