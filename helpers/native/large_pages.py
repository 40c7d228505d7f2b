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
_lock = threading.Lock()
_region, _used = torch.empty(0, dtype=torch.uint8), 0


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor without values on the CPU, in large pages where the system has them.

    Tensors share regions of 32 MiB, one behind the other. A region is given back when no tensor lies in it.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    global _region, _used
    with _lock:
        if _used + nbytes > len(_region):
            _region, _used = _mapped(max(nbytes, _REGION)), 0
        place = _region[_used : _used + nbytes]
        _used += -(-nbytes // _LINE) * _LINE
    return place.view(dtype).view(shape)


def copied(tensor: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor of the CPU in large pages; of another device, the tensor, contiguous."""
    if tensor.device.type != "cpu":
        return tensor.contiguous()
    return empty(tuple(tensor.shape), tensor.dtype).copy_(tensor)


def _mapped(nbytes: int) -> Tensor:
    """Return fresh memory of so many bytes, which begins with a large page."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(nbytes, dtype=torch.uint8)
    memory = mmap.mmap(-1, nbytes + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a system without large pages: the same memory, in small ones
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    begin = -whole.data_ptr() % _PAGE
    return whole[begin : begin + nbytes]
