"""What ranks run in the tests of the emulated collective library: a spawned process imports these by name."""

import functools
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist

from helpers import KVCache
from helpers.graphs import DecodeGraph
from helpers.model import FlatBatch
from helpers.parallel import load_shard
from tests.npu.hccl_kinds import KINDS, OPS, SUMMED, Case


def wrong_results(seed, times):
    """Return, by kind of call, what this rank got that is not what plain torch gives, and how many calls it made."""
    found, calls = {}, 0
    for number, kind in enumerate(KINDS):
        for turn in range(times):
            draw = torch.Generator().manual_seed(1000 * seed + 100 * number + turn)
            case = Case(dist.get_rank(), dist.get_world_size(), draw, long=turn == times - 1)
            calls += 1
            if wrong := _difference(*kind(case)):
                found.setdefault(kind.__name__, wrong)
    return found, calls


def wrong_sums():
    """Return what this rank got that is not plain torch's, for every type and every way to combine."""
    rank, world, found = dist.get_rank(), dist.get_world_size(), {}
    for dtype in SUMMED:
        for op, plain in OPS.items():
            case = Case(rank, world, torch.Generator().manual_seed(7))
            inputs = case.tensors(world, (500,), dtype)
            x = inputs[rank].npu()
            dist.all_reduce(x, op)
            if wrong := _difference(x, functools.reduce(plain, inputs)):
                found[dtype, str(op)] = wrong
    return found


def _difference(came, expected):
    """Return what differs, in words; empty where nothing does. Tensors agree in type, shape and every bit."""
    if isinstance(expected, list):
        parts = [_difference(*pair) for pair in zip(came, expected, strict=True)]
        return "; ".join(part for part in parts if part)
    if not isinstance(expected, torch.Tensor):
        return "" if came == expected else f"{came} for {expected}"
    came = came.cpu()
    same = came.dtype == expected.dtype and torch.equal(came, expected)
    return "" if same else f"{came.flatten()[:4]} for {expected.flatten()[:4]}"


def meet():
    """Wait on the host for all other ranks; the device's queues do not move by it."""
    dist.all_reduce(torch.zeros(1))


def queued_behind_a_message():
    """Rank 1 launches work behind a message that rank 0 sends only afterwards: whether it had run, and the results."""
    rank = dist.get_rank()
    x = torch.zeros(1000, device="npu")
    dist.send(x, 1) if rank == 0 else dist.recv(x, 0)  # makes the pair's communicator, which blocks
    torch.npu.synchronize()
    if rank == 0:
        meet()
        dist.send(torch.arange(1000.0).npu(), 1)
        torch.npu.synchronize()
        return None
    dist.irecv(x, 0).wait()
    y, host = x * 1, torch.full((1000,), 7.0).pin_memory()
    for turn in range(30):
        y = (y * 2 - y) + turn  # temporaries are freed while they wait, and their memory is used again
    z = y + host.npu(non_blocking=True)
    event = torch.npu.Event()
    event.record()
    before = torch.npu.current_stream().query(), event.query()
    meet()
    large = z[z > 1000]  # its shape depends on data, for which the host waits
    return before, (torch.npu.current_stream().query(), event.query()), z.cpu(), large.cpu()


def many_at_once(count):
    """Collectives whose results are asked for later, with work between them: differences from plain torch."""
    rank, world = dist.get_rank(), dist.get_world_size()
    inputs = [
        torch.randn(world, 50 * i + 1, generator=torch.Generator().manual_seed(i)) for i in range(count)
    ]
    tensors, works, sums = [x[rank].npu() for x in inputs], [], []
    for i, x in enumerate(tensors):
        works.append(dist.all_reduce(x, async_op=True))
        sums.append(torch.ones(3, device="npu") * i + 1)
    for work in reversed(works):
        work.wait()
    found = [
        _difference(x * 2, 2 * sum(i.unbind(), start=torch.zeros(())))
        for x, i in zip(tensors, inputs, strict=True)
    ]
    return [text for text in found if text], [float(x.sum()) for x in sums]


def captured(replays):
    """Collectives and a message in a graph: what replays give. One rank after the other captures."""
    rank, world = dist.get_rank(), dist.get_world_size()
    peer = 1 - rank if rank < 2 else None
    x, got, pair = torch.ones(6, device="npu"), [], torch.zeros(6, device="npu")
    dist.all_reduce(x)  # communicators are made before a capture
    if peer is not None:
        dist.send(x, peer) if rank == 0 else dist.recv(pair, peer)
    for turn in range(world):
        if turn == rank:
            pair.fill_(-1)
            graph = torch.npu.NPUGraph()
            with torch.npu.graph(graph):
                y = x * 2
                dist.all_reduce(y)
                parts = [torch.empty_like(y) for _ in range(world)]
                dist.all_gather(parts, y + rank)
                if peer is not None:
                    dist.send(parts[1], peer) if rank == 0 else dist.recv(pair, peer)
                z = parts[-1] - 1
        meet()
    unsent = pair.cpu()
    for turn in range(replays):
        x.fill_(rank + 10.0 * turn)
        graph.replay()
        got.append((z.cpu(), pair.cpu()))
    return unsent, got


def dies(at, file):
    """One rank's process ends while its parent does not see it; others write what they are told."""
    x = torch.ones(4, device="npu")
    dist.all_reduce(x)
    torch.npu.synchronize()
    if dist.get_rank() == at:
        if os.fork():  # the child holds this rank's pipe open, and none of its locks
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(30)
        os._exit(0)
    try:
        dist.all_reduce(x)
        torch.npu.synchronize()
    except RuntimeError as error:
        Path(file).write_text(str(error))
        raise


def killed(at):
    if dist.get_rank() == at:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(3, device="npu"))
    torch.npu.synchronize()


def other_sizes():
    """Ranks sum vectors of different lengths."""
    x = torch.ones(4 + dist.get_rank(), device="npu")
    dist.all_reduce(x)
    torch.npu.synchronize()


def decode_steps(folder, tokens):
    """Captured decode steps of this rank's part of a model, beside plain ones."""
    torch.manual_seed(0)
    model = load_shard(folder, dtype=torch.bfloat16)
    caches = [KVCache.for_model(model, 3, 16) for _ in range(2)]
    prompts = [[5, 96, 3, 3], [41, 12, 17], [1]]
    for cache in caches:
        model(FlatBatch.pack(prompts), cache)
    graph = DecodeGraph(model, caches[0], [0, 1, 2])
    calls = model.collectives.calls["all_reduce"]
    pairs = []
    for row in tokens:
        batch = FlatBatch.pack([[token] for token in row], caches[1].seq_lens)
        pairs.append((model(batch, caches[1]).cpu(), graph.step(row).cpu()))
    return pairs, model.collectives.calls["all_reduce"] - calls


def late(seconds):
    """Rank 1 does not come to a sum; the others wait so many seconds for it."""
    os.environ["HCCL_EXEC_TIMEOUT"] = str(seconds)
    x = torch.ones(4, device="npu")
    dist.all_reduce(x)
    if dist.get_rank() == 1:
        time.sleep(60)
    dist.all_reduce(x)
    torch.npu.synchronize()


def communicators():
    """Names of the communicators of all ranks and of a group, and how many this process has mapped as time goes on."""
    dist.all_reduce(torch.ones(1, device="npu"))
    before = _mapped()
    group = dist.new_group(list(range(dist.get_world_size())))
    dist.all_reduce(torch.ones(1, device="npu"), group=group)
    device, during = torch.device("npu"), _mapped()
    names = [g._get_backend(device).get_hccl_comm_name(dist.get_rank(g)) for g in (dist.group.WORLD, group)]
    dist.destroy_process_group(group)
    return names, (before, during, _mapped())


def _mapped():
    """How many communicators' memory this process has."""
    return Path("/proc/self/maps").read_text().count("emulated HCCL")
