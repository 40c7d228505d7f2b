"""A whole pass of a decoder in one native call."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from typing import Any, NamedTuple

import torch
from torch import Tensor

from helpers.native import page_attention
from helpers.native.library import kernels
from helpers.native.matrices import CMatrix, Matrix, can_read
from helpers.native.page_attention import Sequences

_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
_WIDEST_HEAD = 1024


class Layout(NamedTuple):
    """Where a cache keeps all layers' keys and values, and where a batch's sequences lie in them."""

    k: Tensor
    """`[layers, num_pages, page_size, KV, D]`, or with `heads_first` `[layers, num_pages, KV, page_size, D]`."""
    v: Tensor
    """As `k`."""
    sequences: Sequences
    heads_first: bool


class LayerWeights(NamedTuple):
    """One layer's matrices `[out, in]`, norms and biases, these in fp32; None for what is not there."""

    input_norm: Tensor
    post_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    qkv: tuple[Matrix, Tensor | None]
    o: tuple[Matrix, Tensor | None]
    gate_up: tuple[Matrix, Tensor | None]
    down: tuple[Matrix, Tensor | None]


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("input_norm", "post_norm", "q_norm", "k_norm")),
        *((name, CMatrix) for name in ("qkv", "o", "gate_up", "down")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("layers", c_void_p), ("norm", c_void_p), ("head", CMatrix),
        ("num_layers", c_int32), ("hidden", c_int32), ("eps", c_float),
    )  # fmt: skip


class _Pass(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("x", "cos", "sin", "logits", "outputs")),
        ("tokens", c_int32), ("num_outputs", c_int32), ("layer_stride", c_int64),
    )  # fmt: skip


class NativePass:
    """A decoder's weights as the native pass reads them; codes are shared with the caller."""

    def __init__(
        self,
        layers: Sequence[LayerWeights],
        norm: Tensor,
        head: Matrix,
        num_heads: int,
        head_dim: int,
        eps: float,
        dtype: torch.dtype,
    ):
        """Take the weights, for caches of a type, fp32 or bf16. Ask `can_compute` first."""
        self._kept = (list(layers), norm, head)  # C++ reads their memory
        self._layers = (_Layer * len(layers))(*map(_layer, layers))
        hidden, self._vocab = head.shape[1], head.shape[0]
        self._model = _Model(
            ctypes.addressof(self._layers), norm.data_ptr(), CMatrix.of(head), len(layers), hidden, eps
        )
        self.num_heads, self.head_dim, self.dtype = num_heads, head_dim, dtype

    def __call__(
        self, x: Tensor, rope: tuple[Tensor, Tensor], layout: Layout, outputs: Tensor, scale: float
    ) -> Tensor:
        """Return fp32 logits `[outputs, vocab]`, and write the new tokens' keys and values into the cache.

        `x` is fp32 `[T, hidden]`, the embedded tokens, and is spent. `rope` holds cos and sin, fp32 `[T, D]`.
        `outputs` is int32, the tokens whose logits are wanted.
        """
        logits = torch.empty(len(outputs), self._vocab)
        cache = page_attention.cache_of(layout.k[0], layout.v[0], layout.heads_first)
        batch = page_attention.batch_of(layout.sequences, self.num_heads, scale)
        step = _Pass(
            *(t.data_ptr() for t in (x, *rope, logits, outputs)), len(x), len(outputs), layout.k.stride(0)
        )
        _pass_function(self.dtype)(*map(ctypes.byref, (self._model, batch, cache, step)))
        return logits


def can_compute(matrices: Sequence[Tensor | Matrix], head_dim: int) -> bool:
    """Return whether the kernels are here and read these matrices, of one format or of several.

    The head dimension must be a multiple of the processor's vector width.
    """
    functions = kernels().functions
    return (
        functions is not None
        and all(map(can_read, matrices))
        and head_dim % functions.vector_width() == 0
        and head_dim <= _WIDEST_HEAD
    )


def _layer(layer: LayerWeights) -> _Layer:
    """Return a layer as C++ sees it."""
    norms = (None if t is None else t.data_ptr() for t in layer[:4])
    return _Layer(*norms, *(CMatrix.of(*pair) for pair in layer[4:]))


@functools.cache
def _pass_function(dtype: torch.dtype) -> Any:
    """Return the kernel for a type of weights."""
    function = getattr(kernels().functions, f"pass_{_SUFFIX[dtype]}")
    function.argtypes, function.restype = [c_void_p] * 4, None
    return function
