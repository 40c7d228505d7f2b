"""aclTensor, aclScalar and their relatives as Python values: tensors become CPU tensors over the same bytes."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

from helpers.emulated_npu.errors import emulated

_HEADER = struct.Struct("<QiiqqqqQQ")  # struct object in cann/objects.c, without its words
_KIND_AT = 8
_STRIDED_FORMATS = {
    -1,
    0,
    1,
    2,
    30,
    35,
    47,
}  # UNDEFINED NCHW NHWC ND NCDHW NC NCL: sizes and strides say it all
_BOOL, _INT64, _COMPLEX128 = 12, 9, 17
DTYPES = {
    0: torch.float32,
    1: torch.float16,
    2: torch.int8,
    3: torch.int32,
    4: torch.uint8,
    6: torch.int16,
    7: torch.uint16,
    8: torch.uint32,
    9: torch.int64,
    10: torch.uint64,
    11: torch.float64,
    12: torch.bool,
    16: torch.complex64,
    17: torch.complex128,
    27: torch.bfloat16,
    33: torch.complex32,
    35: torch.float8_e5m2,
    36: torch.float8_e4m3fn,
}


class Kind(IntEnum):
    """The kinds of acl objects, numbered as in cann/objects.c."""

    TENSOR = 1
    SCALAR = 2
    INTS = 3
    BOOLS = 4
    TENSORS = 5
    SCALARS = 6
    FLOATS = 7


Value = Tensor | complex | bool | list["Value"] | None


def read(address: int | None, kind: Kind, record_of: Callable[[int], bytes]) -> Value:
    """Return the value of the acl object at `address`, None for a null pointer.

    `record_of` gives a live acl object's record, and nothing for other addresses. Raises TypeError when the object is
    not of that kind: then an operator's signature is wrong.
    """
    if not address:
        return None
    record = record_of(address)
    if not record or record[_KIND_AT] != kind:
        raise TypeError(f"an argument is not an acl {kind.name}: the operator's signature is wrong")
    if kind is Kind.TENSOR:
        return _tensor(record)
    _, _, dtype, count, *_ = _HEADER.unpack_from(record)
    words = record[_HEADER.size :]
    if kind is Kind.SCALAR:
        return _scalar(words, dtype)
    if kind is Kind.FLOATS:
        return list(struct.unpack(f"<{count}d", words))
    values = struct.unpack(f"<{count}q", words)
    if kind in (Kind.INTS, Kind.BOOLS):
        return [bool(v) if kind is Kind.BOOLS else v for v in values]
    return [read(v, Kind.TENSOR if kind is Kind.TENSORS else Kind.SCALAR, record_of) for v in values]


def _scalar(raw: bytes, dtype: int) -> complex | bool:
    """Return a scalar's value; torch_npu passes int64, double, bool or complex128."""
    if dtype == _BOOL:
        return bool(raw[0])
    if dtype == _COMPLEX128:
        return complex(*struct.unpack("<2d", raw))
    return float(struct.unpack("<d", raw[:8])[0]) if dtype != _INT64 else int(struct.unpack("<q", raw[:8])[0])


@lru_cache(maxsize=8192)  # torch_npu's allocator gives the same addresses again and again
def _tensor(record: bytes) -> Tensor:
    """Return the CPU tensor with the same bytes, sizes, strides and offset as a device tensor.

    Equal records share one tensor, in and outside of inference mode; no operator may change a tensor's own shape.
    """
    _, _, dtype, rank, offset, fmt, storage, data, _ = _HEADER.unpack_from(record)
    emulated(fmt in _STRIDED_FORMATS, f"aclFormat {fmt}, a private layout")
    emulated(dtype in DTYPES, f"aclDataType {dtype}")
    numbers = struct.unpack_from(f"<{2 * rank}q", record, _HEADER.size)
    sizes, strides = numbers[:rank], numbers[rank:]
    if 0 in sizes:
        return torch.empty(sizes, dtype=DTYPES[dtype])
    extent = offset + 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if extent > storage:
        raise ValueError(f"a tensor that reaches over {extent} elements of a storage of {storage}")
    raw = (ctypes.c_char * (extent * DTYPES[dtype].itemsize)).from_address(data)
    with torch.inference_mode(False):
        return torch.frombuffer(raw, dtype=DTYPES[dtype], count=extent).as_strided(sizes, strides, offset)
