"""What sums over ranks in a quantised decoder: a matrix cut along its input, and an embedding cut along its rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from helpers.compression.layers import QuantisedEmbedding, QuantisedLinear
from helpers.compression.products import W8A8Product, dynamic_int8
from helpers.model.decoder import Linear
from helpers.ops import by_device as ops
from helpers.parallel.collectives import Collectives


class SummedProduct(nn.Module):
    """A rank's part of a matrix cut along its input, quantised or not: products are summed, the bias is added once.

    With int8 activations, ranks agree on each token's scale, and sum whole numbers: as exact as one process.
    """

    bias: Tensor | None

    def __init__(self, inner: QuantisedLinear | Linear, bias: Tensor | None, collectives: Collectives):
        """Take a part without a bias, and the whole matrix's bias."""
        super().__init__()
        self.inner, self.collectives = inner, collectives
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the whole product, on each rank: `x [T, width]` -> `[T, hidden]`."""
        product = self._whole_numbers(x)
        if product is None:
            total = self.collectives.all_reduce(self.inner(x).contiguous())
        else:
            total = self._exact(x, product)
        return total if self.bias is None else total + self.bias

    def _whole_numbers(self, x: Tensor) -> W8A8Product | None:
        """Return the product of whole numbers that such an input takes; None for products of other kinds."""
        inner = self.inner
        if isinstance(inner, Linear) or (inner.wide is not None and len(x) > inner.most_rows):
            return None
        return inner.product if isinstance(inner.product, W8A8Product) else None

    def _exact(self, x: Tensor, product: W8A8Product) -> Tensor:
        """Return the sum over ranks of int8 products, in x's type."""
        codes, scale = dynamic_int8(x, product.per, self._agreed)
        total = self.collectives.all_reduce(ops.matmul_int8(codes, product.weight).contiguous())
        return (total * scale * product.scale).to(x.dtype)

    def _agreed(self, scale: Tensor) -> Tensor:
        """Return the largest of all ranks' scales; infinity where one is NaN, which makes the product NaN."""
        return self.collectives.all_max(scale.nan_to_num(nan=math.inf, posinf=math.inf))


class SummedEmbedding(nn.Module):
    """A rank's rows of a quantised embedding. Tokens of other ranks count 0 here, and a sum over ranks gives all."""

    def __init__(self, inner: QuantisedEmbedding, rows: range, collectives: Collectives):
        """Take the tokens whose rows `inner` has."""
        super().__init__()
        self.inner, self.rows, self.collectives = inner, rows, collectives

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the tokens' rows, on each rank: int `[T]` -> `[T, hidden]`."""
        here = (token_ids >= self.rows.start) & (token_ids < self.rows.stop)
        own: Tensor = self.inner((token_ids - self.rows.start).clamp(0, len(self.rows) - 1))
        return self.collectives.all_reduce(torch.where(here.unsqueeze(-1), own, 0.0))
