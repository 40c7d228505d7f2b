"""Products with codes of 4 and 8 bits by the native kernels, which also compute whole passes."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.compression.bit_packing import pack_codes, unpack_codes
from helpers.compression.products import (
    DequantisedProduct,
    Int4Product,
    Int8Product,
    Product,
    RowProduct,
    W8A8Product,
    WeightOnlyProduct,
    signed,
)
from helpers.compression.quantised import Quantised
from helpers.native.library import usable
from helpers.native.matrices import TILE, Codes, can_read, numbers, product
from helpers.ops import by_device as ops
from helpers.ops.products import faster_up_to
from helpers.ops.torch_ops import can_pack

_PIECE = 8_000_000  # bytes of numbers that a product of many rows holds at once


class CodedProduct(RowProduct):
    """Codes in the kernels' order (`native.Codes`), read in place: products as near as those of the fp32 weights.

    Few tokens meet the codes. For many tokens the numbers are written out, some
    rows of the matrix at a time, and multiplied as usual; from how many on is measured once a machine.

    The kernels are for processors. A `QuantisedLinear` that moves to another device takes the product of that
    device instead (`elsewhere`). A `CodedProduct` that is moved alone unpacks its codes in each call.
    """

    codes: Tensor
    scale: Tensor
    offset: Tensor | None

    def __init__(self, quantised: Quantised, like: Tensor, whole: bool = False):
        """Take a matrix that `serves` says can be taken. With `whole`, inputs become int8, each token by itself."""
        super().__init__()
        self.format = fmt = quantised.format
        self.dtype = like.dtype
        group = fmt.group if isinstance(fmt.group, int) else quantised.shape[1]
        offset = quantised.offset
        if fmt.offset == "zero" and offset is not None:
            offset = unpack_codes(offset, fmt.bits, quantised.scale.numel()).reshape(quantised.scale.shape)
        codes = signed(quantised) if whole else quantised.codes
        stored = Codes.pack(codes, quantised.scale, offset, fmt.bits, group)
        self._rest = stored[3:]
        self.register_buffer("codes", stored.codes)
        self.register_buffer("scale", stored.scale)
        self.register_buffer("offset", stored.offset)
        self.most_rows = faster_up_to(
            (str(fmt), whole, quantised.shape[1], str(like.dtype)),
            (self._few, self._many),
            torch.empty(0, quantised.shape[1], dtype=like.dtype),
        )

    @staticmethod
    def serves(quantised: Quantised, like: Tensor) -> bool:
        """Return whether the kernels are here and read such a matrix, for fp32 or bf16 inputs on a CPU."""
        fmt, (rows, columns) = quantised.format, quantised.shape
        group = fmt.group if isinstance(fmt.group, int) else columns
        return (
            usable() is not None
            and like.device.type == "cpu"
            and like.dtype in (torch.float32, torch.bfloat16)
            and fmt.group != "tensor"
            and Codes.fit(rows, columns, fmt.bits, group)
        )

    @property
    def native(self) -> Codes:
        """Return the matrix as the native pass reads it."""
        return Codes(self.codes, self.scale, self.offset, *self._rest)

    @property
    def quantised(self) -> Quantised:
        """Return the matrix as its format stores it."""
        return self._stored(*self.native.unpacked())

    def elsewhere(self, like: Tensor) -> Product:
        """Return the product for inputs like `like`, on another device: with the same codes, still on this one."""
        return (whole_product_of if self.native.whole else product_of)(self.quantised, like)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        if usable() is None or not can_read(self.native):
            return self._plain(x)
        return self._few(x) if len(x) <= self.most_rows else self._many(x)

    def rows(self, numbers: Tensor) -> Tensor:
        """Return rows of the matrix, dequantised."""
        return self._stored(*self.native.unpacked(numbers)).dequantise()

    def _stored(self, codes: Tensor, scale: Tensor, offset: Tensor | None) -> Quantised:
        """Return some rows as their format stores them."""
        bits, shape = self.format.bits, (len(codes), codes.shape[1])
        if self.native.whole:
            codes = (codes.to(torch.int16) + 128).to(torch.uint8)
        if self.format.offset == "zero" and offset is not None:
            offset = pack_codes(offset.reshape(1, -1), bits)
        return Quantised(self.format, shape, pack_codes(codes, bits), scale, offset)

    def _plain(self, x: Tensor) -> Tensor:
        """Return the same product without kernels."""
        kind = W8A8Product if self.native.whole else DequantisedProduct
        result: Tensor = kind(self.quantised)(x)
        return result

    def _few(self, x: Tensor) -> Tensor:
        """Return the product of few tokens."""
        return product(x.float(), self.native).to(x.dtype)

    def _many(self, x: Tensor) -> Tensor:
        """Return the product of many tokens."""
        if self.native.whole:
            return self._plain(x)
        rows, columns = self.native.shape
        dtype = x.dtype if can_pack(x.dtype) else torch.float32
        wide, out = x.to(dtype), torch.empty(len(x), rows, dtype=x.dtype)
        step = max(_PIECE // (4 * columns) // TILE * TILE, TILE)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            out[:, first : first + count] = ops.linear(wide, numbers(self.native, first, count).to(dtype))
        return out


def product_of(quantised: Quantised, like: Tensor) -> Product:
    """Return the fastest way to multiply inputs like `like` (their dtype and device) by a matrix."""
    if WeightOnlyProduct.serves(quantised, like):
        return WeightOnlyProduct(quantised, like.dtype)
    if CodedProduct.serves(quantised, like):
        return CodedProduct(quantised, like)
    for kind in (Int4Product, Int8Product):
        if kind.serves(quantised, like):
            return kind(quantised)
    return DequantisedProduct(quantised)


def whole_product_of(quantised: Quantised, like: Tensor, per: str = "token") -> Product:
    """Return the product with int8 inputs, which share scales as `per` says; raises ValueError as `W8A8Product` does."""
    plain = W8A8Product(quantised, per)
    if per == "token" and CodedProduct.serves(quantised, like):
        return CodedProduct(quantised, like, whole=True)
    return plain
