"""Every way to multiply a quantised matrix gives the product with its dequantised values."""

import pytest
import torch

from helpers.compression import (
    INT4,
    INT8,
    DequantisedProduct,
    Int4Product,
    Int8Product,
    W8A8Product,
    WeightOnlyProduct,
    dynamic_int8,
    product_of,
    quantise_matrix,
)
from helpers.estimates import NumberFormat

BF16 = torch.empty(0, dtype=torch.bfloat16)


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 4, 9])
@pytest.mark.parametrize(
    "fmt", [INT4, NumberFormat(4, 64), NumberFormat(4, 32, "zero", "bf16"), INT8], ids=str
)
def test_a_kernel_gives_the_plain_product_of_the_same_weights(fmt, rows):
    quantised = quantise_matrix(normal(48, 128), fmt)
    kind = Int8Product if fmt.bits == 8 else Int4Product
    if not kind.serves(quantised, BF16):
        pytest.skip("this torch or this processor has no vectorised kernel")
    product, x = kind(quantised), normal(rows, 128, seed=1).to(torch.bfloat16)
    exact = x.double() @ quantised.dequantise().double().t()
    size = x.double().abs() @ quantised.dequantise().double().abs().t()
    assert ((product(x).double() - exact).abs() <= 2**-7 * size).all()


@pytest.fixture
def without_kernels(monkeypatch):
    monkeypatch.setattr("helpers.compression.coded_product.usable", lambda: None)


def test_without_native_kernels_torchs_serve(without_kernels):
    for fmt, kind in ((INT4, Int4Product), (INT8, Int8Product)):
        quantised = quantise_matrix(normal(48, 128), fmt)
        expected = kind if kind.serves(quantised, BF16) else DequantisedProduct
        assert type(product_of(quantised, BF16)) is expected


def test_elsewhere_the_definition_is_computed(without_kernels):
    quantised = quantise_matrix(normal(48, 128), INT4)
    x = normal(3, 128, seed=1)
    product = product_of(quantised, x)
    assert type(product) is DequantisedProduct
    assert product.nbytes == INT4.nbytes(48, 128)
    assert torch.equal(product(x), x @ quantised.dequantise().t())
    assert type(product_of(quantise_matrix(normal(48, 128), NumberFormat(3, 32)), BF16)) is DequantisedProduct


@pytest.mark.parametrize("per", ["token", "tensor"])
def test_int8_times_int8_is_a_whole_number_times_two_scales(per):
    quantised, x = (
        quantise_matrix(normal(48, 2000), INT8),
        normal(5, 2000, seed=1) * torch.arange(1.0, 6)[:, None],
    )
    codes, scale = dynamic_int8(x, per)
    whole = codes.double() @ (quantised.codes.double() - 128).t()
    want = whole * scale.double() * quantised.scale.double().t()
    torch.testing.assert_close(W8A8Product(quantised, per)(x).double(), want, rtol=1e-6, atol=0)


def test_each_token_has_a_scale_of_its_own():
    x = torch.tensor([[0.5, -1.0], [0.0, 254.0], [0.0, 0.0]])
    codes, scale = dynamic_int8(x)
    assert codes.tolist() == [[64, -127], [0, 127], [0, 0]]
    assert scale[:2, 0].tolist() == pytest.approx([1 / 127, 2.0])
    codes, scale = dynamic_int8(x, "tensor")
    assert scale.tolist() == [[2.0]]
    assert codes.tolist() == [[0, 0], [0, 127], [0, 0]]


@pytest.mark.parametrize("fmt", [INT4, NumberFormat(8, 32), NumberFormat(8, "row", "zero")], ids=str)
def test_int8_activations_refuse_other_weights(fmt):
    with pytest.raises(ValueError, match="int8 activations need symmetric int8 weights"):
        W8A8Product(quantise_matrix(normal(4, 64), fmt))


def test_another_share_of_a_scale_is_refused():
    with pytest.raises(ValueError, match="per 'token' or per 'tensor', got 'channel'"):
        dynamic_int8(normal(2, 2), "channel")
    with pytest.raises(ValueError, match="per 'token' or per 'tensor', got 'channel'"):
        W8A8Product(quantise_matrix(normal(4, 64), INT8), "channel")


def test_a_row_of_zeros_has_a_scale_that_divides():
    for per in ("token", "tensor"):
        codes, scale = dynamic_int8(torch.zeros(2, 3), per)
        assert not codes.any()
        assert bool((scale >= torch.finfo(torch.float32).tiny).all())


@pytest.mark.parametrize(
    "fmt",
    [INT4, NumberFormat(4, 32, "zero"), NumberFormat(4), INT8, NumberFormat(8, 64, "minimum")],
    ids=str,
)
def test_weights_that_stay_packed_for_another_device_hold_the_same_numbers(fmt):
    """The definition of the device's product: offsets come before scales; fp32 scales leave rounding alone."""
    quantised = quantise_matrix(normal(48, 128), fmt)
    product, x = WeightOnlyProduct(quantised, torch.float32), normal(3, 128, seed=1)
    assert torch.allclose(product(x), x @ quantised.dequantise().t(), atol=1e-4)
    assert (product.offset is None) == fmt.symmetric
    assert product.weight.nbytes == 48 * 128 * fmt.bits // 8
    assert not WeightOnlyProduct.serves(quantised, x), "this machine's processor has no such product"
