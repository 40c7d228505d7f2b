"""The modules of a quantised model: a matrix, and an embedding that is the output matrix too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
