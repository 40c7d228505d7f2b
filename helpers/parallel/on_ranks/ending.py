"""A rank that dies while another one waits for it."""

from __future__ import annotations

import os
import signal

import torch
import torch.distributed as dist


def dies(rank: int) -> None:
    """Kill one rank's process; the others wait for it in a sum."""
    if dist.get_rank() == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(1))
