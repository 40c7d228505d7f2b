"""FIA's keys and values in 8 bits: which scales a call may bring, and the scale of each key.

Sources: the pages of npu_fused_infer_attention_score and its v2 in op-plugin (docs/zh/custom_APIs), sections on
separate parameters for keys and values. Modes: 0 one scale for each channel, 3 for each token and head, 5 the same
in pages. Modes 1, 2 and 4 exist and are not emulated; offsets (asymmetric codes) neither.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from helpers.emulated_npu.errors import emulated, require
from helpers.emulated_npu.infer_call import InferCall

NAME = "npu_fused_infer_attention_score"
PER_CHANNEL, PER_TOKEN, PER_TOKEN_AND_HEAD, IN_PAGES = 0, 1, 3, 5
_EMULATED = (PER_CHANNEL, PER_TOKEN_AND_HEAD, IN_PAGES)
_MOST_QUERIES = 16


def check_quantised(call: InferCall) -> None:
    """Raise ContractError for int8 keys and values that the pages forbid, before shapes are used."""
    scales = (call.key_antiquant_scale, call.value_antiquant_scale)
    both = all(scale is not None for scale in scales)
    require(both, f"{NAME}: key and value scales come together", [s is not None for s in scales])
    dtypes = (call.k.dtype, call.v.dtype)
    require(dtypes == (torch.int8, torch.int8), f"{NAME}: scales are for int8 keys and values", dtypes)
    modes = (call.key_antiquant_mode, call.value_antiquant_mode)
    emulated(modes != (PER_CHANNEL, PER_TOKEN), f"{NAME} with key mode 0 beside value mode 1")
    require(modes[0] == modes[1], f"{NAME}: key and value have one quantisation mode", modes)
    require(modes[0] in range(6), f"{NAME}: quantisation modes are 0 to 5", modes[0])
    require(not call.packed, f"{NAME}: TND takes no int8 keys and values", call.layout)
    require(
        call.head_size % 32 == 0, f"{NAME}: int8 needs a head size that is a multiple of 32", call.head_size
    )
    if call.decodes:
        if call.paged:
            fits = call.block_size % 32 == 0
            require(fits, f"{NAME}: int8 needs a block_size that is a multiple of 32", call.block_size)
    else:
        _check_several_queries(call)
    emulated(modes[0] in _EMULATED, f"{NAME} with quantisation mode {modes[0]}")
    for name, scale in (("key", scales[0]), ("value", scales[1])):
        if scale is not None:
            _check_scale(call, f"{NAME}: the {name}'s scale", scale)


def _check_several_queries(call: InferCall) -> None:
    """Check what more than one query in a sequence restricts."""
    mode = call.key_antiquant_mode
    rule = f"{NAME}: int8 with more than one query takes the modes 0 and 1"
    require(mode in (PER_CHANNEL, PER_TOKEN), rule, mode)
    require(not call.paged, f"{NAME}: int8 with more than one query takes no pages", "a block_table")
    rule = f"{NAME}: int8 takes at most {_MOST_QUERIES} queries in a sequence"
    require(call.q_size <= _MOST_QUERIES, rule, call.q_size)
    rule = f"{NAME}: int8 with more than one query needs a bfloat16 query"
    require(call.q.dtype == torch.bfloat16, rule, call.q.dtype)


def _check_scale(call: InferCall, what: str, scale: Tensor) -> None:
    """Check one scale's dtype and shape in its mode."""
    heads, size = call.kv_heads, call.head_size
    if call.key_antiquant_mode == PER_CHANNEL:
        dtype, shapes = call.q.dtype, {(1, heads, 1, size), (1, heads, size), (1, heads * size)}
        if not call.decodes:
            shapes |= {(heads, 1, size), (heads, size), (heads * size,)}
    elif call.key_antiquant_mode == PER_TOKEN_AND_HEAD:
        dtype, shapes = torch.float32, {(call.batch, heads, call.kv_size)}
    else:
        rule = f"{NAME}: mode 5 keeps scales in pages and needs a block_table"
        require(call.paged, rule, "none")
        dtype, shapes = torch.float32, {(call.k.shape[0], heads, call.block_size)}
    came = f"{scale.dtype} {tuple(scale.shape)}"
    require(
        scale.dtype == dtype and tuple(scale.shape) in shapes, f"{what} is {dtype} {sorted(shapes)}", came
    )


def numbers_of(call: InferCall, codes: Iterator[Tensor], scale: Tensor | None) -> Iterator[Tensor]:
    """Yield each sequence's keys or values `[KvN, length, D]` as numbers: codes times their scales."""
    for index, part in enumerate(codes):
        yield part if scale is None else part.float() * _scale_of(call, index, part.shape[1], scale)


def _scale_of(call: InferCall, index: int, length: int, scale: Tensor) -> Tensor:
    """Return the scales of one sequence, which broadcast to `[KvN, length, D]`."""
    if call.key_antiquant_mode == PER_CHANNEL:
        return scale.float().reshape(call.kv_heads, 1, call.head_size)
    if call.key_antiquant_mode == PER_TOKEN_AND_HEAD or call.block_table is None:
        return scale[index, :, :length].unsqueeze(-1)
    pages = scale[call.block_table[index, : call.pages_for(length)].long()]
    return pages.transpose(0, 1).flatten(1)[:, :length].unsqueeze(-1)
