"""The modules of a quantised model: bias, the copy for larger batches, rows of an embedding."""

import torch

from helpers.compression import (
    INT8,
    Q8_0,
    DequantisedProduct,
    QuantisedEmbedding,
    QuantisedLinear,
    quantise_matrix,
)
from helpers.model import Linear


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
