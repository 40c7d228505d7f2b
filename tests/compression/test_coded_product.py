"""Products and whole passes with codes by native kernels, and what they leave to others."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import KVCache, PagedKVCache
from helpers.compression import (
    INT4,
    INT8,
    Q8_0,
    CodedProduct,
    DequantisedProduct,
    Recipe,
    W8A8Product,
    product_of,
    quantise,
    quantise_matrix,
    weight_nbytes,
    whole_product_of,
)
from helpers.estimates import NumberFormat
from helpers.model import FlatBatch, NativePasses
from helpers.native import kernels
from helpers.ops import products
from tests.compression.test_quantise import wide_model

pytestmark = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)
FP32, BF16 = torch.empty(0), torch.empty(0, dtype=torch.bfloat16)
FORMATS = [
    NumberFormat(bits, group, offset, scale)
    for bits in (4, 8)
    for group in (32, 64, 96, "row")
    for offset in ("none", "minimum", "zero")
    for scale in ("fp16", "bf16", "fp32")
]


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def nothing_is_measured(monkeypatch):
    """Few rows are few up to 4."""
    monkeypatch.setattr("helpers.compression.coded_product.faster_up_to", lambda *_: 4)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([FP32, BF16]),
)
def test_it_is_the_product_with_the_dequantised_matrix(fmt, tiles, spans, tokens, like):
    quantised = quantise_matrix(normal(16 * tiles, 32 * spans), fmt)
    assert CodedProduct.serves(quantised, like)
    product = CodedProduct(quantised, like)
    x = normal(tokens, 32 * spans, seed=1).to(like.dtype)
    weight = quantised.dequantise().double()
    size = x.double().abs() @ weight.abs().t()
    got = product(x)
    assert got.dtype == like.dtype
    bound = 2e-6 if like.dtype == torch.float32 else 2**-7
    assert ((got.double() - x.double() @ weight.t()).abs() <= bound * size).all()


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_what_is_stored_is_the_format_and_comes_back(fmt):
    quantised = quantise_matrix(normal(48, 192), fmt)
    product = product_of(quantised, FP32)
    assert type(product) is CodedProduct
    again = product.quantised
    for name in ("packed", "scale", "offset"):
        want, got = getattr(quantised, name), getattr(again, name)
        assert want is got is None or torch.equal(got, want)
    if fmt.offset != "zero":  # which has a byte for each zero
        assert product.nbytes == fmt.nbytes(48, 192)
    numbers = torch.tensor([47, 0, 0, 9])
    assert torch.equal(product.rows(numbers), quantised.dequantise(numbers))


@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_whole_products_are_those_of_w8a8(tokens):
    quantised, x = quantise_matrix(normal(48, 192), INT8), normal(tokens, 192, seed=1)
    product = whole_product_of(quantised, FP32)
    assert type(product) is CodedProduct
    assert product.nbytes == INT8.nbytes(48, 192)
    assert torch.equal(product(x), W8A8Product(quantised)(x))
    assert torch.equal(product.quantised.packed, quantised.packed)
    assert type(whole_product_of(quantised, FP32, "tensor")) is W8A8Product


def test_many_tokens_meet_numbers_in_pieces(monkeypatch):
    quantised, x = quantise_matrix(normal(48, 64), INT4), normal(9, 64, seed=1)
    product = CodedProduct(quantised, FP32)
    monkeypatch.setattr("helpers.compression.coded_product._PIECE", 4 * 64 * 20)
    torch.testing.assert_close(product(x), x @ quantised.dequantise().t())


@pytest.mark.parametrize(
    ("rows", "columns", "fmt", "like"),
    [
        (24, 64, INT4, FP32),
        (16, 48, INT4, FP32),
        (16, 64, NumberFormat(4, 16), FP32),
        (16, 64, NumberFormat(4, 48), FP32),
        (16, 64, NumberFormat(3, 32), FP32),
        (16, 64, NumberFormat(4, "tensor"), FP32),
        (16, 64, INT4, torch.empty(0, dtype=torch.float16)),
        (16, 64, INT4, torch.empty(0, device="meta")),
    ],
)
def test_other_shapes_formats_and_inputs_are_left_to_other_products(rows, columns, fmt, like):
    quantised = quantise_matrix(normal(rows, columns), fmt)
    assert not CodedProduct.serves(quantised, like)
    assert type(product_of(quantised, like)) is DequantisedProduct


def test_without_kernels_the_definition_is_computed(monkeypatch):
    quantised, x = quantise_matrix(normal(16, 64), INT4), normal(2, 64, seed=1)
    ready, whole = CodedProduct(quantised, FP32), quantise_matrix(normal(16, 64), INT8)
    ready_whole = whole_product_of(whole, FP32)
    monkeypatch.setattr("helpers.compression.coded_product.usable", lambda: None)
    assert torch.equal(ready(x), DequantisedProduct(quantised)(x))
    assert torch.equal(ready_whole(x), W8A8Product(whole)(x))
    assert type(product_of(quantised, FP32)) is DequantisedProduct
    assert type(whole_product_of(whole, FP32)) is W8A8Product


RECIPES = {
    "int4": Recipe(INT4),
    "int4, int8 head": Recipe(INT4, head=Q8_0),
    "int8 by row": Recipe(INT8, head=INT8),
    "int8 by int8": Recipe(INT8, activations="token"),
    "one layer": Recipe(NumberFormat(4, 64), layers=[1]),
    "with copies": Recipe(INT4, most_rows=2),
}


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_pass_in_one_call_gives_the_logits_of_the_operators(name, tied, monkeypatch):
    monkeypatch.setenv("COURSE_KERNELS", "native")
    model = quantise(wide_model(tie_word_embeddings=tied), RECIPES[name])
    if model.native_passes is None:
        pytest.skip("this processor's vectors are wider than the model's heads")
    batches = [
        FlatBatch.pack([[5, 96, 3, 3], [7]]),
        FlatBatch.pack([[8], [1, 2]], [4, 1]),
        FlatBatch.pack([[9]], [5]),
    ]
    native, own = model.native_passes, model.native_passes._native
    noted = []
    native._native = lambda *a: noted.append(1) or own(*a)
    for kind in (KVCache, PagedKVCache):
        caches = [kind.for_model(model, 4, 64) for _ in range(2)]
        got = [model(batch, caches[0], logits="all") for batch in batches]
        model.native_passes = None
        want = [model(batch, caches[1], logits="all") for batch in batches]
        model.native_passes = native
        torch.testing.assert_close(got, want, atol=1e-3 if "by int8" in name else 5e-5, rtol=1e-4)
    assert len(noted) == 2 * len(batches)


def test_a_product_that_was_exchanged_is_seen(monkeypatch):
    monkeypatch.setenv("COURSE_KERNELS", "native")
    model = quantise(wide_model(), Recipe(INT4))
    if model.native_passes is None:
        pytest.skip("this processor's vectors are wider than the model's heads")
    batch = FlatBatch.pack([[1, 2]])
    assert model.native_passes.takes(batch)
    linear = model.layers[1].mlp.down_proj
    linear.product = DequantisedProduct(linear.product.quantised)
    assert not model.native_passes.takes(batch)
    assert not NativePasses.serves(model)


def test_a_model_of_codes_holds_no_copy():
    model = wide_model(tie_word_embeddings=True)
    packed = quantise(model, Recipe(INT4, head=Q8_0))
    assert weight_nbytes(packed) == Recipe(INT4, head=Q8_0).scheme(tied=True).total(table(), 4)


def table():
    """Return the sizes of `wide_model`'s weights."""
    from transformers import LlamaConfig

    from helpers.estimates import weight_table
    from tests.tiny import SIZES

    sizes = {**SIZES, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 112}
    return weight_table(LlamaConfig(**sizes, tie_word_embeddings=True))


def test_the_rows_up_to_which_codes_are_faster(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.delenv("COURSE_KERNELS", raising=False)
    found = {}

    def fastest(ways, runs=0):
        rows = len(ways[0]())
        return found[rows]

    monkeypatch.setattr(products, "fastest", fastest)
    ways, rows = (lambda x: x, lambda x: x), products.CODED_ROWS
    for slow, most in ((rows[0], 0), (rows[2], rows[1]), (None, products.NEVER)):
        found = {n: [2.0 if n == slow else 1.0, 1.0] for n in rows}
        assert products.faster_up_to(str(slow), ways, torch.empty(0, 32)) == most
    found = {}
    assert products.faster_up_to("None", ways, torch.empty(0, 32)) == products.NEVER, "it was kept"
    for wish, most in (("plain", 0), ("packed", products.NEVER), ("native", products.NEVER)):
        monkeypatch.setenv("COURSE_KERNELS", wish)
        assert products.faster_up_to("other", ways, torch.empty(0, 32)) == most
