"""The modules of a quantised model: a matrix, and an embedding that is the output matrix too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.compression.coded_product import CodedProduct
from helpers.compression.products import Product, RowProduct
from helpers.model.decoder import Linear


class QuantisedLinear(nn.Module):
    """A quantised matrix in a decoder's place for a `Linear`."""

    bias: Tensor | None

    def __init__(
        self, product: Product, bias: Tensor | None = None, wide: Linear | None = None, most_rows: int = 0
    ):
        """Multiply by `product`; by `wide`, where there is one, when a pass has more than `most_rows` tokens."""
        super().__init__()
        self.product, self.wide, self.most_rows = product, wide, most_rows
        self.register_buffer("bias", bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantisedLinear:
        """Move as every module does; codes in the kernels' order become what the new device multiplies by."""
        if isinstance(self.product, CodedProduct) and self.product.codes.device.type == "cpu":
            like = fn(torch.empty(0, dtype=self.product.dtype))
            if like.device.type != "cpu":
                self.product = self.product.elsewhere(like)
        moved: QuantisedLinear = super()._apply(fn, recurse)
        return moved

    def forward(self, x: Tensor) -> Tensor:
        """Return the product: `x [T, in]` -> `[T, out]`."""
        if self.wide is not None and len(x) > self.most_rows:
            result: Tensor = self.wide(x)
            return result
        result = self.product(x)
        return result if self.bias is None else result + self.bias


class QuantisedEmbedding(nn.Module):
    """An embedding whose rows are dequantised when a token asks for them."""

    def __init__(self, product: RowProduct, dtype: torch.dtype):
        """Share the stored matrix with `product`, and give rows in `dtype`."""
        super().__init__()
        self.product, self.dtype = product, dtype

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the tokens' rows: int `[T]` -> `[T, hidden]`."""
        return self.product.rows(token_ids).to(self.dtype)
