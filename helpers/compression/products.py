"""A quantised matrix, ready to be multiplied: one class for each way to do it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.compression.quantised import Quantised
from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.ops import by_device as ops
from helpers.ops import low_bit
from helpers.ops.int8_cache import quantise_int8

PER = ("token", "tensor")
"""Which numbers of an input share a scale."""


class Product(nn.Module):
    """`x [T, in]` times a quantised matrix, transposed: `[T, out]` in x's dtype.

    What is stored are buffers, so that `nbytes` counts all of it.
    """

    @property
    def nbytes(self) -> int:
        """Return the bytes of all that is stored."""
        return sum(buffer.nbytes for buffer in self.buffers())


class RowProduct(Product):
    """A product that also gives rows of the matrix, as an embedding needs them."""

    def rows(self, numbers: Tensor) -> Tensor:
        """Return the rows with these numbers in fp32: int `[n]` -> `[n, in]`."""
        raise NotImplementedError


class DequantisedProduct(RowProduct):
    """The definition: the matrix is dequantised in each call, then multiplied. Any format, any device."""

    packed: Tensor
    scale: Tensor
    offset: Tensor | None

    def __init__(self, quantised: Quantised):
        super().__init__()
        self.format, self.shape = quantised.format, quantised.shape
        self.register_buffer("packed", quantised.packed)
        self.register_buffer("scale", quantised.scale)
        self.register_buffer("offset", quantised.offset)

    @property
    def quantised(self) -> Quantised:
        """Return the matrix as it is stored."""
        return Quantised(self.format, self.shape, self.packed, self.scale, self.offset)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return ops.linear(x, self.quantised.dequantise().to(x.dtype))

    def rows(self, numbers: Tensor) -> Tensor:
        """Return rows of the matrix, dequantised."""
        return self.quantised.dequantise(numbers)


class Int4Product(Product):
    """Codes of 4 bits, unpacked in registers (`ops.low_bit.linear_int4`): bf16 only."""

    packed: Tensor
    scale_and_zero: Tensor

    def __init__(self, quantised: Quantised):
        super().__init__()
        grid, rows = quantised.grid, quantised.shape[0]
        minimum = (grid.minimum - grid.zero * grid.scale).expand(rows, -1)
        codes, scale = low_bit.pack_int4(quantised.codes, grid.scale.expand(rows, -1), minimum)
        self.group = quantised.shape[1] // scale.shape[0]
        self.register_buffer("packed", codes)
        self.register_buffer("scale_and_zero", scale)

    @staticmethod
    def serves(quantised: Quantised, like: Tensor) -> bool:
        """Return whether the kernel multiplies this matrix by inputs like `like`."""
        fmt, size = quantised.format, quantised.format.group
        if fmt.bits != 4 or not isinstance(size, int):
            return False
        return low_bit.serves_int4(*quantised.shape, size, like)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return low_bit.linear_int4(x, self.packed, self.scale_and_zero, self.group)


class Int8Product(RowProduct):
    """Symmetric int8 with one scale a row, widened in registers (`ops.low_bit.linear_int8`): bf16 only."""

    weight: Tensor
    scale: Tensor

    def __init__(self, quantised: Quantised):
        super().__init__()
        self.register_buffer("weight", signed(quantised))
        self.register_buffer("scale", quantised.scale[:, 0].to(torch.bfloat16))

    @staticmethod
    def serves(quantised: Quantised, like: Tensor) -> bool:
        """Return whether the kernel multiplies this matrix by inputs like `like`."""
        return is_int8_by_row(quantised.format) and low_bit.serves_int8(like, quantised.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return low_bit.linear_int8(x, self.weight, self.scale)

    def rows(self, numbers: Tensor) -> Tensor:
        """Return rows of the matrix, dequantised."""
        return self.weight[numbers].float() * self.scale[numbers].float().unsqueeze(-1)


class W8A8Product(Product):
    """int8 weights with one scale a row, times inputs quantised on the way (`dynamic_int8`).

    The sums of products are whole numbers, exact in int32; the two scales are multiplied afterwards.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, quantised: Quantised, per: str = "token"):
        super().__init__()
        if not is_int8_by_row(quantised.format):
            raise ValueError(
                f"int8 activations need symmetric int8 weights, one scale a row; got {quantised.format}"
            )
        if per not in PER:
            raise ValueError(f"activations have one scale per 'token' or per 'tensor', got {per!r}")
        self.per = per
        self.register_buffer("weight", signed(quantised))
        self.register_buffer("scale", quantised.scale[:, 0].float())

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        if self.per == "token":
            return ops.linear_w8a8(x, self.weight, self.scale)
        codes, scale = dynamic_int8(x, self.per)
        return (ops.matmul_int8(codes, self.weight) * scale * self.scale).to(x.dtype)


class WeightOnlyProduct(Product):
    """int4 or int8 weights that the device's own product reads packed (`ops.linear_weight_only`).

    The numbers are `(code + offset) * scale`; scales and offsets are rounded to the type of the inputs.
    """

    weight: Tensor
    scale: Tensor
    offset: Tensor | None

    def __init__(self, quantised: Quantised, dtype: torch.dtype):
        super().__init__()
        grid, fmt, rows = quantised.grid, quantised.format, quantised.shape[0]
        middle = 2 ** (fmt.bits - 1)
        numbers = (quantised.codes.to(torch.int16) - middle).to(torch.int8).t().contiguous()
        offset = (middle - grid.zero + grid.minimum / grid.scale).expand(rows, -1).t()
        scale = grid.scale.expand(rows, -1).t()
        self.group = fmt.group if isinstance(fmt.group, int) else 0
        if not self.group:
            scale, offset = scale[0], offset[0]
        self.register_buffer("weight", low_bit.pack_words(numbers) if fmt.bits == 4 else numbers)
        self.register_buffer("scale", scale.to(dtype).contiguous())
        self.register_buffer("offset", None if fmt.symmetric else offset.to(dtype).contiguous())

    @staticmethod
    def serves(quantised: Quantised, like: Tensor) -> bool:
        """Return whether the device of `like` has this product for such a matrix."""
        fmt = quantised.format
        group = fmt.group if isinstance(fmt.group, int) else {"row": 0}.get(fmt.group, -1)
        return ops.serves_weight_only(like, *quantised.shape, fmt.bits, group)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return ops.linear_weight_only(x, self.weight, self.scale, self.offset, self.group)


def dynamic_int8(
    x: Tensor, per: str = "token", agree: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return `x [T, in]` as int8 numbers and fp32 scales `[T, 1]`, chosen from these very numbers.

    Each token has its own scale, its largest number / 127; `per="tensor"` gives all tokens one scale `[1, 1]`.
    `agree` as in `quantise_int8`.
    """
    if per not in PER:
        raise ValueError(f"activations have one scale per 'token' or per 'tensor', got {per!r}")
    codes, scale = quantise_int8(x if per == "token" else x.reshape(1, -1), agree)
    return codes.reshape(x.shape), scale.unsqueeze(-1)


def signed(quantised: Quantised) -> Tensor:
    """Return symmetric codes of 8 bits as int8 numbers around 0."""
    return (quantised.codes.to(torch.int16) - 128).to(torch.int8)


def is_int8_by_row(fmt: NumberFormat) -> bool:
    """Return whether a format is symmetric int8 with one scale a row."""
    return fmt.bits == 8 and fmt.symmetric and fmt.group == "row"
