"""What ranks run in the tests: a spawned process imports these by name."""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist

KEPT = []


def total(number):
    """Sum one number over all ranks."""
    value = torch.tensor([number + dist.get_rank()])
    dist.all_reduce(value)
    KEPT.append(int(value))
    return dist.get_rank(), value, list(KEPT)


def threads():
    return torch.get_num_threads()


def raises(at):
    """One rank has a bug; the others wait for it."""
    if dist.get_rank() == at:
        print("on the way to a bug", file=sys.stderr, flush=True)
        raise KeyError("a bug")
    dist.barrier()


def killed(at, note):
    """One rank shares a tensor's memory, notes the time, and is killed; the others wait for it."""
    if dist.get_rank() == at:
        KEPT.append(torch.ones(1000).share_memory_())
        note.write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(3))


def hangs(at):
    if dist.get_rank() == at:
        asleep_at_the_wheel()
    dist.all_reduce(torch.ones(3))


def asleep_at_the_wheel():
    time.sleep(1000)


def slow(at):
    """One rank never answers, and nobody waits for it in a collective."""
    if dist.get_rank() == at:
        asleep_at_the_wheel()


def other_sizes():
    dist.all_reduce(torch.ones(1 if dist.get_rank() else 100))


def skips(at):
    """One rank does not enter the collective of the others, and is done."""
    if dist.get_rank() != at:
        dist.all_reduce(torch.ones(3))


def waits():
    """All ranks are busy for long: the first one computes, the others wait for it in a collective."""
    while not dist.get_rank():
        pass
    dist.all_reduce(torch.ones(3))
