"""The pieces of a decoder that are worth fusing: each written out, fused in plain torch, and by its NPU operator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from helpers.graphs import written_out
from helpers.graphs.counting import OpCounts, op_counts
from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM
from helpers.ops import by_device, int8_cache, low_bit, torch_attention, torch_ops

Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Piece:
    """One piece: the same function in two forms, and inputs for it."""

    name: str
    written: Callable[..., Any]
    """The formula, an operator for each sign."""
    fused: Callable[..., Any]
    """The same by the operators of `helpers.ops`, which are single kernels on an NPU where there is one."""
    on_npu: tuple[str, ...]
    """The torch_npu operators that do it in one kernel each."""
    make: Callable[[DecoderConfig, int], Inputs]
    """Inputs for a model and a number of tokens."""
    num_kept: int = 0
    """How many inputs at the end are weights or caches, which are no intermediates."""

    def inputs(self, cfg: DecoderConfig, tokens: int = 1) -> Inputs:
        """Return seeded random inputs in fp32 for `tokens` tokens of a model of these sizes."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make(cfg, tokens)

    def counts(self, cfg: DecoderConfig, tokens: int = 1) -> tuple[OpCounts, OpCounts]:
        """Return the operator calls of the written and of the fused form, for one layer."""
        found = []
        for form in (self.written, self.fused):
            given = self.inputs(cfg, tokens)
            kept = [x for x in given[len(given) - self.num_kept :] if isinstance(x, Tensor)]
            found.append(op_counts(lambda form=form, given=given: form(*given), kept))  # type: ignore[misc]
        return found[0], found[1]


@contextmanager
def swapped(**operators: Callable[..., Any]) -> Iterator[None]:
    """Let models run with other versions of `helpers.ops` inside the block: `with swapped(rotary=mine): ...`.

    Raises ValueError, before anything changes, for a name that `helpers.ops` does not have.
    """
    unknown = [name for name in operators if not callable(getattr(by_device, name, None))]
    if unknown:
        raise ValueError(f"helpers.ops has no operator {unknown[0]!r}")
    with ExitStack() as stack:
        for name, function in operators.items():
            stack.enter_context(patch.object(by_device, name, function))
        yield


def by_operators(model: DecoderLM) -> DecoderLM:
    """Return the model, weights shared, with every pass computed operator by operator.

    Where this machine has C++ kernels, a model computes a pass in one native call. No
    operator can be swapped in it, and a dispatcher sees none of it.
    """
    alike = copy.copy(model)
    alike.native_passes = None
    return alike


PLAIN: dict[str, Callable[..., Any]] = {
    name: function
    for module in (torch_ops, torch_attention, int8_cache, low_bit)
    for name, function in vars(module).items()
    if hasattr(getattr(by_device, name, None), "__wrapped__")
}
"""The plain-torch version of each operator that has others, for `swapped`: torch's dispatcher sees all that it does."""

WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "add_rms_norm": written_out.add_rms_norm,
    "rotary": written_out.rotary,
    "swiglu": written_out.swiglu_of_both,
}
"""Operators that `swapped` can put into a model, as their formulas read."""


def _product(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Return `x @ weight.T` of all weights by one product over the weights joined, the last of them."""
    sizes = [len(weight) for weight in weights[:-1]]
    return torch.split(by_device.linear(x, weights[-1]), sizes, dim=-1)


def _each(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Return a product for each weight but the last, which is all of them joined."""
    return written_out.products(x, *weights[:-1])


def _rotary_together(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    """Return queries and keys rotated as one tensor of heads; both are views of it already."""
    turned = by_device.rotary(_joined(q, k), cos, sin)
    return torch.split(turned, [q.shape[1], k.shape[1]], dim=1)


def _joined(q: Tensor, k: Tensor) -> Tensor:
    """Return the tensor `[T, heads, D]` of which queries and keys are the first and the last heads: a view."""
    return q.as_strided((q.shape[0], q.shape[1] + k.shape[1], q.shape[2]), q.stride(), q.storage_offset())


def _write_together(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor
) -> Tensor:
    """Return rotated queries, and write keys and values by the operator for pages, here of one slot each."""
    turned, keys = _rotary_together(q, k, cos, sin)
    by_device.write_kv_pages(k_cache[:, None], v_cache[:, None], keys, v, slots)
    return turned


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return `helpers.ops.swiglu` of gate and up, which stand side by side in one tensor."""
    both = gate.as_strided((gate.shape[0], 2 * gate.shape[1]), gate.stride(), gate.storage_offset())
    return by_device.swiglu(both)


def _norm_inputs(cfg: DecoderConfig, tokens: int) -> Inputs:
    """Return x, residual, weight, eps."""
    x, residual = torch.randn(2, tokens, cfg.hidden_size)
    return x, residual, torch.rand(cfg.hidden_size) + 0.5, cfg.rms_norm_eps


def _rotary_inputs(cfg: DecoderConfig, tokens: int) -> Inputs:
    """Return q, k, cos, sin; q and k are views of one product's result."""
    qk = torch.randn(tokens, cfg.num_heads + cfg.num_kv_heads, cfg.head_dim)
    angles = torch.randn(tokens, 1, cfg.head_dim // 2).repeat(1, 1, 2)
    return qk[:, : cfg.num_heads], qk[:, cfg.num_heads :], angles.cos(), angles.sin()


def _gate_up_inputs(cfg: DecoderConfig, tokens: int) -> Inputs:
    """Return gate and up, views of one product's result."""
    return torch.randn(tokens, 2 * cfg.intermediate_size).chunk(2, dim=-1)


def _product_inputs(rows: Callable[[DecoderConfig], tuple[int, ...]]) -> Callable[..., Inputs]:
    """Return a maker of x, the weights, and the weights joined."""

    def make(cfg: DecoderConfig, tokens: int) -> Inputs:
        joined = torch.randn(sum(rows(cfg)), cfg.hidden_size) * cfg.hidden_size**-0.5
        return torch.randn(tokens, cfg.hidden_size), *joined.split(rows(cfg)), joined

    return make


def _write_inputs(cfg: DecoderConfig, tokens: int) -> Inputs:
    """Return q, k, v, cos, sin, two caches of a slot more than there are tokens, and the slots."""
    q, k, cos, sin = _rotary_inputs(cfg, tokens)
    caches = torch.zeros(2, tokens + 1, cfg.num_kv_heads, cfg.head_dim)
    return q, k, torch.randn_like(k), cos, sin, caches[0], caches[1], torch.arange(tokens)


def _qkv(cfg: DecoderConfig) -> tuple[int, ...]:
    """Return the rows of the matrices of queries, keys and values."""
    keys = cfg.num_kv_heads * cfg.head_dim
    return cfg.num_heads * cfg.head_dim, keys, keys


PIECES = (
    Piece("add + RMSNorm", written_out.add_rms_norm, by_device.add_rms_norm, ("npu_add_rms_norm",), _norm_inputs, 2),
    Piece("rotary of q and k", written_out.rotary_apart, _rotary_together, ("npu_rotary_mul",), _rotary_inputs),
    Piece("SwiGLU", written_out.swiglu, _swiglu, ("npu_swiglu",), _gate_up_inputs),
    Piece("Q, K and V in one product", _each, _product, ("linear",), _product_inputs(_qkv), 4),
    Piece("gate and up in one product", _each, _product, ("linear",), _product_inputs(lambda c: (c.intermediate_size,) * 2), 3),
    Piece("rotary and cache write", written_out.rotary_and_write, _write_together,
          ("npu_rotary_mul", "npu_scatter_pa_kv_cache"), _write_inputs, 3),
)  # fmt: skip
"""The pieces, in the order of a layer's explanation. In the last one cos and sin are intermediates, too."""
