"""A whole pass of a decoder over a few tokens in one native call, and the product of one matrix by itself."""

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
    """One layer's tensors: matrices `[out, in]` of one type, norms and biases fp32; None for what is not there."""

    input_norm: Tensor
    post_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    qkv: tuple[Tensor, Tensor | None]
    o: tuple[Tensor, Tensor | None]
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]


class _Matrix(ctypes.Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("rows", c_int32), ("columns", c_int32))


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("input_norm", "post_norm", "q_norm", "k_norm")),
        *((name, _Matrix) for name in ("qkv", "o", "gate_up", "down")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("layers", c_void_p), ("norm", c_void_p), ("head", _Matrix),
        ("num_layers", c_int32), ("hidden", c_int32), ("eps", c_float),
    )  # fmt: skip


class _Pass(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("x", "cos", "sin", "logits", "outputs")),
        ("tokens", c_int32), ("num_outputs", c_int32), ("layer_stride", c_int64),
    )  # fmt: skip


class SmallPass:
    """A decoder's weights as the native pass reads them; the tensors are shared with the caller, not copied."""

    def __init__(
        self,
        layers: Sequence[LayerWeights],
        norm: Tensor,
        head: Tensor,
        num_heads: int,
        head_dim: int,
        eps: float,
    ):
        """Take the weights. Ask `can_compute` first."""
        self._kept = (list(layers), norm, head)  # C++ reads their memory
        self._layers = (_Layer * len(layers))(*map(_layer, layers))
        hidden, self._vocab = head.shape[1], head.shape[0]
        self._model = _Model(
            ctypes.addressof(self._layers), norm.data_ptr(), _matrix((head, None)), len(layers), hidden, eps
        )
        self.num_heads, self.head_dim, self.dtype = num_heads, head_dim, head.dtype

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


def can_compute(matrices: Sequence[Tensor], head_dim: int) -> bool:
    """Return whether the kernels are here and read these matrices: one type, fp32 or bf16, on the CPU.

    Rows and the head dimension must be multiples of the processor's vector width.
    """
    functions = kernels().functions
    return (
        functions is not None
        and {m.dtype for m in matrices} in ({torch.float32}, {torch.bfloat16})
        and all(m.device.type == "cpu" and not m.is_mkldnn and m.is_contiguous() for m in matrices)
        and all(m.shape[1] % functions.vector_width() == 0 for m in matrices)
        and head_dim % functions.vector_width() == 0
        and head_dim <= _WIDEST_HEAD
    )


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return `x @ weight.T` in fp32, for fp32 `x [T, in]` and a weight `[out, in]` that `can_compute` knows."""
    out = torch.empty(len(x), len(weight))
    function = getattr(kernels().functions, f"product_{_SUFFIX[weight.dtype]}")
    function.argtypes = [c_void_p, c_void_p, c_int32, c_void_p, c_int32]
    matrix = ctypes.byref(_matrix((weight, None)))
    function(matrix, x.data_ptr(), len(x), out.data_ptr(), torch.get_num_threads())
    return out


def _matrix(pair: tuple[Tensor, Tensor | None]) -> _Matrix:
    """Return a matrix and its bias as C++ sees them."""
    weight, bias = pair
    return _Matrix(weight.data_ptr(), None if bias is None else bias.data_ptr(), *weight.shape)


def _layer(layer: LayerWeights) -> _Layer:
    """Return a layer as C++ sees it."""
    norms = (None if t is None else t.data_ptr() for t in layer[:4])
    return _Layer(*norms, *map(_matrix, layer[4:]))


@functools.cache
def _pass_function(dtype: torch.dtype) -> Any:
    """Return the kernel for a type of weights."""
    function = getattr(kernels().functions, f"pass_{_SUFFIX[dtype]}")
    function.argtypes, function.restype = [c_void_p] * 4, None
    return function
