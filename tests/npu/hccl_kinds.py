"""Each kind of call of torch.distributed on the device, beside what it means in plain torch.

A kind takes a case, in which every rank knows the inputs of all ranks, and returns what came and what should have.
"""

import functools
from dataclasses import dataclass

import torch
import torch.distributed as dist

SUMMED = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int32, torch.int64]
CARRIED = [*SUMMED, torch.uint8, torch.bool, torch.float64]
OPS = {
    dist.ReduceOp.SUM: torch.add,
    dist.ReduceOp.PRODUCT: torch.mul,
    dist.ReduceOp.MAX: torch.maximum,
    dist.ReduceOp.MIN: torch.minimum,
}
SHAPES = [(1,), (7,), (3, 5), (2, 3, 4), (1000, 3), (0,)]
LONG = (300_001,)  # more than a slot of shared memory takes at once, in every type of 4 bytes


@dataclass
class Case:
    """What one call is about; `draw` gives all ranks the same numbers."""

    rank: int
    world: int
    draw: torch.Generator
    long: bool = False

    def number(self, most):
        return int(torch.randint(most, (), generator=self.draw))

    def of(self, choices):
        choices = list(choices)
        return choices[self.number(len(choices))]

    def tensors(self, count, shape, dtype):
        """Random tensors of one shape; sums and products of them fit the type, but for their rounding."""
        drawn = [torch.randint(-3, 4, shape, generator=self.draw) for _ in range(count)]
        if dtype.is_floating_point:
            return [(x + torch.rand(shape, generator=self.draw)).to(dtype) for x in drawn]
        return [(x.abs() if dtype in (torch.uint8, torch.bool) else x).to(dtype) for x in drawn]

    def shape(self):
        return LONG if self.long else self.of(SHAPES)

    def inputs(self, dtypes=CARRIED, count=None, shape=None):
        """One tensor for each rank."""
        return self.tensors(count or self.world, shape or self.shape(), self.of(dtypes))

    def combined(self):
        """One tensor for each rank, how to combine them, and the result."""
        op, inputs = self.of(OPS), self.inputs(SUMMED)
        return inputs, op, functools.reduce(OPS[op], inputs)


def all_reduce(case):
    inputs, op, expected = case.combined()
    x = inputs[case.rank].npu()
    dist.all_reduce(x, op)
    return x, expected


def all_reduce_mean(case):
    inputs = case.inputs([torch.float32])
    x = inputs[case.rank].npu()
    dist.all_reduce(x, dist.ReduceOp.AVG)
    return x, functools.reduce(torch.add, inputs) / case.world


def reduce(case):
    inputs, op, expected = case.combined()
    root, x = case.number(case.world), inputs[case.rank].npu()
    dist.reduce(x, root, op)
    return (x, expected) if case.rank == root else (0, 0)


def broadcast(case):
    inputs, root = case.inputs(), case.number(case.world)
    x = inputs[case.rank].npu()
    dist.broadcast(x, root)
    return x, inputs[root]


def all_gather(case):
    inputs = case.inputs()
    out = [torch.empty_like(x).npu() for x in inputs]
    dist.all_gather(out, inputs[case.rank].npu())
    return out, inputs


def all_gather_uneven(case):
    """Lengths differ from rank to rank: the library's call with counts."""
    inputs = [case.tensors(1, (case.number(9) + 1, 4), torch.float32)[0] for _ in range(case.world)]
    out = [torch.empty_like(x).npu() for x in inputs]
    dist.all_gather(out, inputs[case.rank].npu())
    return out, inputs


def all_gather_into_tensor(case):
    inputs = case.inputs()
    out = (
        torch.cat(inputs).npu()
        if inputs[0].dtype == torch.bool
        else torch.empty_like(torch.cat(inputs)).npu()
    )
    dist.all_gather_into_tensor(out, inputs[case.rank].npu())
    return out, torch.cat(inputs)


def reduce_scatter(case):
    op, dtype, shape = case.of(OPS), case.of(SUMMED), case.shape()
    inputs = [case.tensors(case.world, shape, dtype) for _ in range(case.world)]
    out = torch.empty(shape, dtype=dtype).npu()
    dist.reduce_scatter(out, [x.npu() for x in inputs[case.rank]], op)
    return out, functools.reduce(OPS[op], [parts[case.rank] for parts in inputs])


def reduce_scatter_uneven(case):
    lengths = [case.number(9) + 1 for _ in range(case.world)]
    inputs = [[case.tensors(1, (n, 3), torch.float32)[0] for n in lengths] for _ in range(case.world)]
    out = torch.empty_like(inputs[0][case.rank]).npu()
    dist.reduce_scatter(out, [x.npu() for x in inputs[case.rank]])
    return out, functools.reduce(torch.add, [parts[case.rank] for parts in inputs])


def reduce_scatter_tensor(case):
    op, dtype, length = case.of(OPS), case.of(SUMMED), case.number(50) + 1
    inputs = case.tensors(case.world, (case.world * length, 2), dtype)
    out = torch.empty(length, 2, dtype=dtype).npu()
    dist.reduce_scatter_tensor(out, inputs[case.rank].npu(), op)
    return out, functools.reduce(OPS[op], inputs).chunk(case.world)[case.rank]


def scatter(case):
    inputs, root = case.inputs(), case.number(case.world)
    out = torch.empty_like(inputs[0]).npu()
    dist.scatter(out, [x.npu() for x in inputs] if case.rank == root else None, root)
    return out, inputs[case.rank]


def gather(case):
    inputs, root = case.inputs(), case.number(case.world)
    out = [torch.empty_like(x).npu() for x in inputs] if case.rank == root else None
    dist.gather(inputs[case.rank].npu(), out, root)
    return (out, inputs) if case.rank == root else (0, 0)


def all_to_all_single(case):
    inputs = case.inputs(shape=(case.world * (case.number(40) + 1), 3))
    out = torch.empty_like(inputs[0]).npu()
    dist.all_to_all_single(out, inputs[case.rank].npu())
    return out, torch.cat([x.chunk(case.world)[case.rank] for x in inputs])


def all_to_all_single_uneven(case):
    counts = [[case.number(6) for _ in range(case.world)] for _ in range(case.world)]
    dtype = case.of([torch.float32, torch.int64, torch.bfloat16])
    inputs = [case.tensors(1, (sum(row), 2), dtype)[0] for row in counts]
    mine = [row[case.rank] for row in counts]
    out = torch.empty(sum(mine), 2, dtype=dtype).npu()
    dist.all_to_all_single(out, inputs[case.rank].npu(), mine, counts[case.rank])
    return out, torch.cat([x.split(row)[case.rank] for x, row in zip(inputs, counts, strict=True)])


def all_to_all(case):
    rows = [[case.number(5) + 1 for _ in range(case.world)] for _ in range(case.world)]
    inputs = [[case.tensors(1, (n,), torch.float32)[0] for n in row] for row in rows]
    out = [torch.empty_like(parts[case.rank]).npu() for parts in inputs]
    dist.all_to_all(out, [x.npu() for x in inputs[case.rank]])
    return out, [parts[case.rank] for parts in inputs]


def send_recv(case):
    """From one rank to another; the rest does not take part."""
    inputs = case.inputs()
    root = case.number(case.world)
    to = (root + 1) % case.world
    out = torch.empty_like(inputs[root]).npu()
    if case.rank == root:
        dist.send(inputs[root].npu(), to)
    if case.rank == to:
        dist.recv(out, root)
    return (out, inputs[root]) if case.rank == to else (0, 0)


def isend_irecv(case):
    """In a ring: rank 0 sends first and the others receive first, and all wait at the end."""
    inputs, left, right = case.inputs(), (case.rank - 1) % case.world, (case.rank + 1) % case.world
    out = torch.empty_like(inputs[0]).npu()
    calls = [lambda: dist.isend(inputs[case.rank].npu(), right), lambda: dist.irecv(out, left)]
    for work in [call() for call in (calls if case.rank == 0 else reversed(calls))]:
        work.wait()
    return out, inputs[left]


def batch_isend_irecv(case):
    """Every rank sends to all others and itself receives from all."""
    inputs = [case.inputs(shape=(5, 2)) for _ in range(case.world)]
    dtype = inputs[0][0].dtype
    inputs = [[x.to(dtype) for x in row] for row in inputs]
    others = [r for r in range(case.world) if r != case.rank]
    out = {r: torch.empty_like(inputs[r][case.rank]).npu() for r in others}
    calls = [dist.P2POp(dist.isend, inputs[case.rank][r].npu(), r) for r in others]
    calls += [dist.P2POp(dist.irecv, out[r], r) for r in others]
    for work in dist.batch_isend_irecv(calls):
        work.wait()
    return [out[r] for r in others], [inputs[r][case.rank] for r in others]


def barrier(case):
    dist.barrier()
    return 0, 0


def all_gather_object(case):
    said = [None] * case.world
    dist.all_gather_object(said, {"rank": case.rank})
    return said, [{"rank": r} for r in range(case.world)]


def broadcast_object_list(case):
    said, root = [("from", case.rank)], case.number(case.world)
    dist.broadcast_object_list(said, root, device=torch.device("npu", 0))
    return said, [("from", root)]


@functools.cache
def _group(members):
    return dist.new_group(members)


def some_ranks(case):
    """A group of the first and the last rank."""
    inputs, members = case.inputs(SUMMED), (0, case.world - 1)
    group = _group(members)
    x = inputs[case.rank].npu()
    if case.rank not in members:
        return 0, 0
    dist.all_reduce(x, group=group)
    return x, inputs[members[0]] + inputs[members[1]]


KINDS = [
    all_reduce, all_reduce_mean, reduce, broadcast, all_gather, all_gather_uneven, all_gather_into_tensor,
    reduce_scatter, reduce_scatter_uneven, reduce_scatter_tensor, scatter, gather, all_to_all_single,
    all_to_all_single_uneven, all_to_all, send_recv, isend_irecv, batch_isend_irecv, barrier, all_gather_object,
    broadcast_object_list, some_ranks,
]  # fmt: skip
