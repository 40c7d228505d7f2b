"""Attention over keys and values in pages, read where they are: the C++ kernel behind `ops.attention_pages`.

Plain torch collects scattered pages before it attends. The kernel reads each page once, where it lies.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from typing import Any, NamedTuple

import torch
from torch import Tensor

from helpers.native.library import kernels, usable

_FUNCTIONS = {torch.float32: "attend_f32", torch.bfloat16: "attend_bf16"}


class Cache(ctypes.Structure):
    """One layer's keys and values as C++ sees them; strides count numbers."""

    _fields_ = (
        ("k", c_void_p), ("v", c_void_p),
        ("page_stride", c_int64), ("token_stride", c_int64), ("head_stride", c_int64),
        ("page_size", c_int32), ("kv_heads", c_int32), ("dim", c_int32),
    )  # fmt: skip


class Batch(ctypes.Structure):
    """The sequences of a pass as C++ sees them."""

    _fields_ = (
        ("tables", c_void_p), ("q_start", c_void_p), ("kv_lens", c_void_p),
        ("sequences", c_int32), ("width", c_int32), ("heads", c_int32), ("threads", c_int32),
        ("scale", c_float),
    )  # fmt: skip


class Sequences(NamedTuple):
    """The sequences of a pass: `tables` int32 `[B, width]`, `q_start` int32 `[B + 1]`, `kv_lens` int32 `[B]`."""

    tables: Tensor
    q_start: Tensor
    kv_lens: Tensor

    @classmethod
    def of(cls, tables: Tensor, q_start: Sequence[int], kv_lens: Sequence[int]) -> Sequences:
        """Return the sequences with these pages, first queries and lengths in tokens."""
        return cls(tables, *(torch.tensor(x, dtype=torch.int32) for x in (q_start, kv_lens)))


def serves(q: Tensor, k_cache: Tensor, v_cache: Tensor) -> bool:
    """Return whether the kernel is here and can compute with these: all fp32 or all bf16, on the CPU.

    The head dimension must be a multiple of the processor's vector width.
    """
    functions = usable()
    return (
        functions is not None
        and q.device.type == k_cache.device.type == "cpu"
        and q.dtype == k_cache.dtype == v_cache.dtype
        and q.dtype in _FUNCTIONS
        and q.shape[-1] % functions.vector_width() == 0
        and not (q.requires_grad and torch.is_grad_enabled())
        and q.stride()[1:] == (q.shape[-1], 1)
        and k_cache.stride() == v_cache.stride()
        and k_cache.stride(-1) == 1
    )


def attend(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, sequences: Sequences, scale: float, heads_first: bool = False
) -> Tensor:
    """Return causal attention `[T, H, D]` of `q [T, H, D]` over pages `[num_pages, page_size, KV, D]`.

    With `heads_first`, pages are `[num_pages, KV, page_size, D]`. A query's result does not depend on the
    other queries, to the last bit. Ask `serves` first.
    """
    cache, batch = cache_of(k_cache, v_cache, heads_first), batch_of(sequences, q.shape[1], scale)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    _function(q.dtype)(ctypes.byref(batch), ctypes.byref(cache), q.data_ptr(), q.stride(0), out.data_ptr())
    return out


def cache_of(k_cache: Tensor, v_cache: Tensor, heads_first: bool) -> Cache:
    """Return one layer's keys and values as C++ sees them."""
    tokens, heads = (2, 1) if heads_first else (1, 2)
    return Cache(
        k_cache.data_ptr(), v_cache.data_ptr(),
        k_cache.stride(0), k_cache.stride(tokens), k_cache.stride(heads),
        k_cache.shape[tokens], k_cache.shape[heads], k_cache.shape[-1],
    )  # fmt: skip


def batch_of(sequences: Sequences, num_heads: int, scale: float) -> Batch:
    """Return the sequences of a pass as C++ sees them."""
    pointers = (x.data_ptr() for x in sequences)
    return Batch(*pointers, *sequences.tables.shape, num_heads, torch.get_num_threads(), scale)


@functools.cache
def _function(dtype: torch.dtype) -> Any:
    """Return the kernel for a type."""
    functions = kernels().functions
    assert functions is not None  # `serves` said so
    function = getattr(functions, _FUNCTIONS[dtype])
    function.argtypes = [c_void_p, c_void_p, c_void_p, c_int64, c_void_p]
    function.restype = None
    return function
