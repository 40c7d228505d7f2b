"""Seconds of messages between the ranks of this machine, over the sizes of the messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def all_reduce_seconds(sizes: Sequence[int], repeats: int = 30) -> list[float]:
    """Return the least seconds of a sum over all ranks, for each size in bytes; sizes take turns."""
    return _least(sizes, repeats, lambda x: dist.all_reduce(x))


def send_seconds(sizes: Sequence[int], repeats: int = 30) -> list[float]:
    """Return the least seconds of one message from rank 0 to rank 1, for each size: half of a way there and back."""
    rank = dist.get_rank()

    def there_and_back(x: Tensor) -> None:
        if rank == 0:
            dist.send(x, 1)
            dist.recv(x, 1)
        elif rank == 1:
            dist.recv(x, 0)
            dist.send(x, 0)

    return [seconds / 2 for seconds in _least(sizes, repeats, there_and_back)]


def _least(sizes: Sequence[int], repeats: int, call: Callable[[Tensor], object]) -> list[float]:
    """Return the least seconds of a call on fp32 zeros of each size; ranks begin each call together."""
    tensors = [torch.zeros(size // 4) for size in sizes]
    least = [float("inf")] * len(sizes)
    for _ in range(repeats):
        for i, x in enumerate(tensors):
            dist.barrier()
            begin = time.perf_counter()
            call(x)
            least[i] = min(least[i], time.perf_counter() - begin)
    return least
