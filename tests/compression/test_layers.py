"""The modules of a quantised model: bias, the copy for larger batches, rows of an embedding."""

import pytest
import torch

from helpers.compression import (
    INT4,
    INT8,
    Q8_0,
    CodedProduct,
    DequantisedProduct,
    QuantisedEmbedding,
    QuantisedLinear,
    W8A8Product,
    product_of,
    quantise_matrix,
    whole_product_of,
)
from helpers.model import Linear
from helpers.native import kernels

FP32 = torch.empty(0)


def wide(value):
    linear = Linear(64, 4, bias=False)
    linear.weight.data.fill_(value)
    return linear


@torch.no_grad()
def test_larger_batches_take_the_copy():
    quantised = quantise_matrix(torch.ones(4, 64), INT8)
    linear = QuantisedLinear(DequantisedProduct(quantised), wide=wide(2.0), most_rows=3)
    assert linear(torch.ones(3, 64)).unique().tolist() == [64.0]
    assert linear(torch.ones(4, 64)).unique().tolist() == [128.0]


def test_a_bias_is_added():
    product = DequantisedProduct(quantise_matrix(torch.ones(4, 64), INT8))
    assert QuantisedLinear(product, torch.arange(4.0))(torch.ones(1, 64)).tolist() == [[64, 65, 66, 67]]


def test_an_embedding_gives_rows_in_its_type():
    quantised = quantise_matrix(torch.arange(640.0).reshape(10, 64), Q8_0)
    rows = QuantisedEmbedding(DequantisedProduct(quantised), torch.float16)(torch.tensor([7, 7, 0]))
    assert torch.equal(rows, quantised.dequantise()[[7, 7, 0]].half())


@pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)
def test_codes_for_the_kernels_become_another_products_on_another_device():
    plain, whole = (quantise_matrix(torch.randn(16, 64), fmt) for fmt in (INT4, INT8))
    linears = [QuantisedLinear(product_of(plain, FP32)), QuantisedLinear(whole_product_of(whole, FP32))]
    for linear, kind, kept in zip(linears, (DequantisedProduct, W8A8Product), (plain, whole), strict=True):
        before = linear.product
        assert type(linear.to(torch.device("cpu")).product) is CodedProduct
        assert linear.product is before, "nothing moves"
        elsewhere = before.elsewhere(torch.empty(0, device="meta"))
        x = torch.randn(3, 64)
        torch.testing.assert_close(elsewhere(x), before(x))
        assert type(linear.to("meta").product) is type(elsewhere) is kind
        assert {buffer.device.type for buffer in linear.buffers()} == {"meta"}
        assert linear.product.nbytes == elsewhere.nbytes <= kept.nbytes + 2 * 16
