"""Operators that move elements: copies, fills, constructors, shapes, gathering and scattering."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.emulated_npu.errors import emulated, require
from helpers.emulated_npu.operators import Operators, fill_front, store

OPERATORS = Operators()
op, result, in_place = OPERATORS.op, OPERATORS.result, OPERATORS.in_place

# ---- copies and fills ------------------------------------------------------------------------------------------------
op("InplaceCopy", "TT")(lambda target, source: target.copy_(source))  # broadcasts, casts, any strides
op("Cast", "TIT")(lambda source, dtype, target: store(target, source))
op("InplaceFillScalar", "TS")(lambda a, value: a.fill_(value))
op("InplaceFillTensor", "TT")(lambda a, value: a.copy_(value))
op("InplaceZero", "T")(lambda a: a.zero_())
op("InplaceOne", "T")(lambda a: a.fill_(1))
op("InplaceMaskedFillScalar", "TTS")(lambda a, mask, value: a.masked_fill_(mask.bool(), value))
op("InplaceMaskedFillTensor", "TTT")(lambda a, mask, value: a.masked_fill_(mask.bool(), value.item()))
op("InplaceMaskedScatter", "TTT")(lambda a, mask, source: a.masked_scatter_(mask.bool(), source))
op("InplaceFillDiagonal", "TSb")(lambda a, value, wrap: a.fill_diagonal_(value, wrap))

# ---- constructors ----------------------------------------------------------------------------------------------------


@op("Arange Range", "SSST")
def _arange(start: float, end: float, step: float, out: Tensor) -> None:
    """Return torch.arange, of as many elements as torch_npu allocated."""
    counting = torch.float64 if out.is_floating_point() else torch.int64
    store(out, torch.arange(out.shape[0], dtype=counting) * step + start)


op("Linspace", "SSiT")(lambda start, end, n, out: store(out, torch.linspace(start, end, n, dtype=out.dtype)))
op("LogSpace", "SSidT")(
    lambda start, end, n, base, out: store(out, torch.logspace(start, end, n, base, dtype=out.dtype))
)
op("Eye", "iiT")(lambda n, m, out: store(out, torch.eye(n, m, dtype=out.dtype)))
result("Tril", "TiT", torch.tril)
result("Triu", "TiT", torch.triu)
in_place("InplaceTril", "Ti", torch.tril)
in_place("InplaceTriu", "Ti", torch.triu)


@op("OneHot", "TITTiT")
def _one_hot(x: Tensor, depth: int, on: Tensor, off: Tensor, axis: int, out: Tensor) -> None:
    """Return `on` where `x` holds the index along `axis`, and `off` elsewhere."""
    store(out, torch.where(F.one_hot(x.long(), depth).movedim(-1, axis).bool(), on, off))


# ---- shapes ----------------------------------------------------------------------------------------------------------
result(
    "Cat", "LiT", lambda tensors, dim: torch.cat([t for t in tensors if t.shape != (0,)] or tensors[:1], dim)
)
result("Stack", "LiT", torch.stack)
result("Repeat", "TAT", lambda a, counts: a.repeat(counts))
result("Flip", "TAT", torch.flip)
result("Roll", "TAAT", lambda a, shifts, dims: torch.roll(a, shifts, dims) if dims else torch.roll(a, shifts))
result("ConstantPadNd", "TAST", lambda a, pad, value: F.pad(a, pad, value=value))
for _rank in (1, 2, 3):
    result(f"ReflectionPad{_rank}d", "TAT", lambda a, pad: F.pad(a, pad, mode="reflect"))
    result(f"ReplicationPad{_rank}d", "TAT", lambda a, pad: F.pad(a, pad, mode="replicate"))
result("RepeatInterleaveInt", "TiiT", lambda a, repeats, size: torch.repeat_interleave(a, repeats))
result(
    "RepeatInterleaveIntWithDim",
    "TiiiT",
    lambda a, repeats, dim, size: torch.repeat_interleave(a, repeats, dim),
)
result("RepeatInterleave", "TTiT", lambda a, repeats, size: torch.repeat_interleave(a, repeats))
result(
    "RepeatInterleaveWithDim", "TTiiT", lambda a, repeats, dim, size: torch.repeat_interleave(a, repeats, dim)
)
result("RepeatInterleaveTensor", "TiT", lambda repeats, size: torch.repeat_interleave(repeats))

# ---- gathering -------------------------------------------------------------------------------------------------------
result("Gather", "TiTT", torch.gather)
result("IndexSelect", "TiTT", torch.index_select)
result("Take", "TTT", torch.take)
result("Embedding", "TTT", lambda weight, indices: F.embedding(indices, weight))


@op("EmbeddingDenseBackward", "TTuubT")
def _embedding_backward(
    grad: Tensor, indices: Tensor, count: int, padding: int, by_frequency: bool, out: Tensor
) -> None:
    """Return the gradient of an embedding's weight; `padding` is a signed number in an unsigned argument."""
    signed = padding if padding < 1 << 63 else padding - (1 << 64)
    store(out, torch.ops.aten.embedding_dense_backward(grad, indices, count, signed, by_frequency))


def _present(indices: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the indices of `x[:, i]`, None for a missing one: the op plugin sends an empty tensor instead."""
    if any(i.shape != (0,) for i in indices):
        return [None if i.shape == (0,) else i for i in indices]
    return [i if i.dtype in (torch.long, torch.int32, torch.bool) else None for i in indices]


@op("Index", "TLT")
def _index(a: Tensor, indices: Sequence[Tensor], out: Tensor) -> None:
    """Return `a[indices]`."""
    store(out, torch.ops.aten.index(a, _present(indices)))


@op("IndexPutImpl", "TLTbb")
def _index_put(a: Tensor, indices: Sequence[Tensor], values: Tensor, accumulate: bool, unsafe: bool) -> None:
    """Do `a[indices] = values`, or `+=`."""
    torch.ops.aten.index_put_(a, _present(indices), values.to(a.dtype), accumulate)


# ---- scattering ------------------------------------------------------------------------------------------------------
result(
    "IndexAdd",
    "TiTTST",
    lambda a, dim, index, source, alpha: torch.index_add(a, dim, index, source, alpha=alpha),
)
result("IndexCopy", "TiTTT", torch.index_copy)
in_place("InplaceIndexCopy", "TiTT", torch.index_copy)
result("IndexFill", "TiTST", torch.index_fill)
in_place("InplaceIndexFill", "TiTS", torch.index_fill)
op("InplacePut", "TTTb")(lambda a, index, source, accumulate: a.put_(index, source, accumulate))
result("ScatterAdd", "TiTTT", torch.scatter_add)


def _scatter(a: Tensor, dim: int, index: Tensor, source: Tensor, reduction: int) -> Tensor:
    """Return torch.scatter with a reduction as CANN numbers it: 0 none, 1 add, 2 multiply."""
    if reduction == 0:
        return torch.scatter(a, dim, index, source)
    return torch.scatter(a, dim, index, source, reduce={1: "add", 2: "multiply"}[reduction])


result("Scatter", "TiTTiT", _scatter)
result("ScatterValue", "TiTSiT", _scatter)
in_place("InplaceScatter", "TiTTi", _scatter)
in_place("InplaceScatterValue", "TiTSi", _scatter)


def _scatter_reduce(
    a: Tensor, dim: int, index: Tensor, source: Tensor, reduction: int, include_self: bool
) -> Tensor:
    """Return torch.scatter_reduce with a reduction as CANN numbers it."""
    names = {1: "sum", 2: "prod", 3: "amax", 4: "amin", 5: "mean"}
    emulated(reduction in names, f"scatter_reduce mode {reduction}")
    return torch.scatter_reduce(a, dim, index, source, names[reduction], include_self=include_self)


result("ScatterReduce", "TiTTibT", _scatter_reduce)
in_place("InplaceScatterReduce", "TiTTib", _scatter_reduce)


@op("InplaceScatterUpdate", "TTTi")
def _scatter_update(data: Tensor, starts: Tensor, updates: Tensor, axis: int) -> None:
    """Write row b of `updates` to `data[b]`, from `starts[b]` on along `axis`."""
    emulated(starts.dim() == 1, "scatter_update with 2-d indices")
    for row, start in enumerate(starts.tolist()):
        data[row].narrow(axis % data.dim() - 1, start, updates.shape[axis]).copy_(updates[row])


_ND_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.int64, torch.int8)


def _check_scatter_nd(a: Tensor, indices: Tensor, updates: Tensor) -> None:
    """Check the rules of npu_scatter_nd_update_ on A2 and A3 (op-plugin's document) that do not depend on
    contents.
    """
    require(
        a.dtype in _ND_DTYPES,
        "npu_scatter_nd_update_: input is float32/16, bfloat16, bool, int64 or int8",
        a.dtype,
    )
    require(
        updates.dtype == a.dtype,
        "npu_scatter_nd_update_: updates have input's dtype",
        f"{updates.dtype}, {a.dtype}",
    )
    require(
        indices.dtype in (torch.int32, torch.int64),
        "npu_scatter_nd_update_: indices are int32 or int64",
        indices.dtype,
    )
    require(1 <= a.dim() <= 8, "npu_scatter_nd_update_: input has 1 to 8 dimensions", a.dim())
    shape = tuple(indices.shape)
    require(len(shape) >= 2, "npu_scatter_nd_update_: indices have 2 dimensions at least", shape)
    require(
        shape[-1] <= a.dim(),
        "npu_scatter_nd_update_: an index has no more entries than input has dimensions",
        shape,
    )
    expected = (*shape[:-1], *a.shape[shape[-1] :])
    require(
        tuple(updates.shape) == expected,
        f"npu_scatter_nd_update_: updates have shape {expected}",
        tuple(updates.shape),
    )


@op("ScatterNdUpdate", "TTT", check=_check_scatter_nd)
def _scatter_nd_update(a: Tensor, indices: Tensor, updates: Tensor) -> None:
    """Do `a[indices[t]] = updates[t]`.

    Refuse an index out of range, -1 included: the document does not allow it.
    """
    for axis, column in enumerate(indices.unbind(-1)):
        inside = ((column >= 0) & (column < a.shape[axis])).all()
        require(
            bool(inside),
            f"npu_scatter_nd_update_: indices lie in [0, {a.shape[axis] - 1}]",
            column.flatten().tolist()[:16],
        )
    a[tuple(indices.long().unbind(-1))] = updates


# ---- results whose size depends on data ------------------------------------------------------------------------------
@op("Nonzero", "TT", resizes=True)
def _nonzero(a: Tensor, out: Tensor) -> dict[int, Sequence[int]]:
    """Return the indices of elements that are not 0, one row for each element."""
    return {1: fill_front(out, a.nonzero())}


@op("NonzeroV2", "TT", resizes=True)
def _nonzero_as_columns(a: Tensor, out: Tensor) -> dict[int, Sequence[int]]:
    """Return the indices of elements that are not 0, one row for each dimension."""
    return {1: fill_front(out, a.nonzero().t())}


@op("MaskedSelect", "TTT", resizes=True)
def _masked_select(a: Tensor, mask: Tensor, out: Tensor) -> dict[int, Sequence[int]]:
    """Return the elements where the mask is true."""
    return {2: fill_front(out, torch.masked_select(a, mask.bool()))}


@op("Unique2", "TbbbTTT", resizes=True)
def _unique(
    a: Tensor, ordered: bool, inverse: bool, counts: bool, values: Tensor, places: Tensor, sizes: Tensor
) -> dict[int, Sequence[int]]:
    """Return torch.unique, always sorted."""
    found, where, how_often = torch.unique(a, sorted=True, return_inverse=True, return_counts=True)
    shapes = {4: fill_front(values, found)}
    if inverse or counts:
        store(places, where)
    if counts:
        shapes[6] = fill_front(sizes, how_often)
    return shapes


@op("UniqueConsecutive", "TbbiTTT", resizes=True)
def _unique_consecutive(
    a: Tensor, inverse: bool, counts: bool, dim: int, values: Tensor, places: Tensor, sizes: Tensor
) -> dict[int, Sequence[int]]:
    """Return torch.unique_consecutive; a dim of 1000 or more stands for none."""
    found, where, how_often = torch.unique_consecutive(a, True, True, None if dim >= 1000 else dim)
    shapes = {4: fill_front(values, found)}
    if inverse:
        shapes[5] = fill_front(places, where)
    if counts:
        shapes[6] = fill_front(sizes, how_often)
    return shapes


OPERATORS.accept_complex(
    "InplaceCopy Cast Cat Stack Index IndexSelect Gather InplaceFillScalar InplaceZero InplaceOne Flip Roll Repeat"
)
