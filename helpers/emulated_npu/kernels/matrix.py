"""Matrix products and convolutions: what an NPU's cube unit does. It takes float16, bfloat16 and float32 only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.emulated_npu.errors import require
from helpers.emulated_npu.operators import Function, Operators, store

OPERATORS = Operators()
op, result = OPERATORS.op, OPERATORS.result
_CUBE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def _check_dtypes(*args: Any) -> None:
    """Refuse what the matrix unit does not multiply."""
    for a in args:
        if isinstance(a, torch.Tensor):
            require(a.dtype in _CUBE_DTYPES, "matrix products take float16, bfloat16 and float32", a.dtype)


def _product(names: str, signature: str, function: Function) -> None:
    """Enter a matrix product.

    Its last argument, cubeMathType, is a precision switch that changes nothing here.
    """

    def run(*args: Any) -> None:
        *inputs, out, _ = args
        store(out, function(*inputs))

    op(names, signature, check=_check_dtypes)(run)


def _added(function: Function) -> Function:
    """Return `function(c, a, b, beta=beta, alpha=alpha)` with its factors by position."""
    return lambda c, a, b, beta, alpha: function(c, a, b, beta=beta, alpha=alpha)


_product("Matmul Mm BatchMatMul", "TTTy", torch.matmul)
_product("Mv", "TTTy", torch.mv)
_product("Addmm", "TTTSSTy", _added(torch.addmm))
_product("Baddbmm", "TTTSSTy", _added(torch.baddbmm))
_product("Addbmm", "TTTSSTy", _added(torch.addbmm))
_product("Addmv", "TTTSSTy", lambda c, a, b, alpha, beta: torch.addmv(c, a, b, beta=beta, alpha=alpha))
result("Addr", "TTTSST", _added(torch.addr))
result("Dot", "TTT", torch.dot)
result("Inverse", "TT", torch.linalg.inv)


@op("InplaceAddmm", "TTTSSy", check=_check_dtypes)
def _addmm_in_place(c: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float, _: int) -> None:
    """Do `c = beta * c + alpha * (a @ b)`."""
    store(c, torch.addmm(c, a, b, beta=beta, alpha=alpha))


@op("Convolution", "TTTAAAbAiTy")
def _convolution(*args: Any) -> None:
    """Return a convolution of any rank, transposed or not."""
    *inputs, out, _ = args
    store(out, torch.convolution(*inputs))


@op("ConvolutionBackward", "TTTAAAAbAiByTTT")
def _convolution_backward(*args: Any) -> None:
    """Return the gradients of a convolution that its mask asks for."""
    *inputs, wanted, _, grad_input, grad_weight, grad_bias = args
    outs: Sequence[Tensor] = (grad_input, grad_weight, grad_bias)
    values = torch.ops.aten.convolution_backward(*inputs, wanted)
    for want, out, value in zip(wanted, outs, values, strict=True):
        if want:
            store(out, value)
