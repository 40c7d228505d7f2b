"""Products with matrices of every format, against torch and against the same numbers in fp32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.native import Codes, Plain, can_read, kernels, numbers, product
from helpers.ops import linear_w8a8

pytestmark = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)
NUMBERS = (torch.float32, torch.float16, torch.bfloat16)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 40),
    st.integers(1, 8),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_product_is_torchs(tokens, rows, columns, dtype):
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, 16 * columns, generator=generator)
    weight = torch.randn(rows, 16 * columns, generator=generator).to(dtype)
    torch.testing.assert_close(product(x, Plain.pack(weight)), x @ weight.float().T, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", [511, 512, 513, 1025])
def test_many_tokens_meet_a_matrix_in_chunks(tokens):
    x, weight = torch.randn(tokens, 32), torch.randn(40, 32)
    torch.testing.assert_close(product(x, Plain.pack(weight)), x @ weight.T, atol=2e-5, rtol=1e-5)


@st.composite
def coded(draw, bits=(4, 8), whole=False):
    """Draw codes with their grids, and what each weight should be."""
    bits, rows, spans = draw(st.sampled_from(bits)), 16 * draw(st.integers(1, 4)), draw(st.integers(1, 9))
    columns, dtype = 32 * spans, draw(st.sampled_from(NUMBERS))
    group = columns if whole else draw(st.sampled_from([32, 64, 96, 128, columns, 4096]))
    kind = "none" if whole else draw(st.sampled_from(["none", "minimum", "zero"]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    grids = (rows, -(-columns // group))
    if whole:
        codes = torch.randint(-127, 128, (rows, columns), generator=generator).to(torch.int8)
    else:
        codes = torch.randint(0, 2**bits, (rows, columns), generator=generator).to(torch.uint8)
    scale = (torch.rand(grids, generator=generator) + 0.1).to(dtype)
    offset = {
        "none": None,
        "minimum": torch.randn(grids, generator=generator).to(dtype),
        "zero": torch.randint(0, 2**bits, grids, generator=generator).to(torch.uint8),
    }[kind]
    d, m = (
        None if t is None else t.float().repeat_interleave(group, 1)[:, :columns] for t in (scale, offset)
    )
    middle = 0 if whole else 2 ** (bits - 1)
    if kind == "minimum":
        values = codes.float() * d + m
    else:
        values = (codes.float() - (middle if m is None else m)) * d
    return Codes.pack(codes, scale, offset, bits, group), values, (codes, scale, offset)


@settings(max_examples=80, deadline=None)
@given(coded())
def test_codes_are_the_numbers_that_their_grids_say(drawn):
    codes, values, _ = drawn
    exact = dict(atol=0, rtol=0) if codes.scale.dtype != torch.float32 else dict(atol=1e-4, rtol=1e-6)
    torch.testing.assert_close(numbers(codes), values, **exact)
    rows = codes.shape[0]
    assert torch.equal(numbers(codes, rows - 16, 16), numbers(codes)[-16:])


@settings(max_examples=80, deadline=None)
@given(coded((8,)), st.integers(1, 20))
def test_a_product_with_codes_of_8_bits_has_the_bits_of_the_product_with_their_numbers(drawn, tokens):
    codes, values, _ = drawn
    x = torch.randn(tokens, codes.shape[1], generator=torch.Generator().manual_seed(tokens))
    got = product(x, codes)
    assert torch.equal(got, product(x, Plain.pack(numbers(codes))))
    size = x.abs() @ values.abs().T
    assert ((got - x @ values.T).abs() <= 1e-5 * size).all()


@settings(max_examples=150, deadline=None)
@given(coded((4,)), st.sampled_from([1, 2, 3, 7, 12, 13, 20]), st.integers(0, 30))
def test_a_product_with_codes_of_4_bits_is_as_near_as_floats_are(drawn, tokens, spread):
    codes, values, (plain, scale, _) = drawn
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, codes.shape[1], generator=generator)
    x = x * 2.0 ** torch.randint(-spread, spread + 1, x.shape, generator=generator)  # numbers far apart
    exact = x.double() @ values.double().T
    # Each number is rounded to 2^-22 of the largest of its 32; then few sums are rounded as floats are.
    peaks = x.unflatten(1, (-1, 32)).abs().amax(dim=2).double().repeat_interleave(32, 1)
    of_codes = (plain.float() * scale.float().repeat_interleave(codes.group, 1)[:, : codes.shape[1]]).double()
    bound = 2.0**-22 * (peaks @ values.double().abs().T)
    bound += 2.0**-22 * (x.double().abs() @ (of_codes + (values - of_codes).abs()).T)
    assert ((product(x, codes) - exact).abs() <= bound).all()


def test_whole_numbers_times_codes_of_4_bits_are_exact():
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(-(2**15), 2**15, (7, 96), generator=generator).float()
    plain = torch.randint(0, 16, (32, 96), generator=generator).to(torch.uint8)
    codes = Codes.pack(plain, torch.full((32, 3), 0.25), None, 4, 32)
    assert torch.equal(product(x, codes), x @ (plain.float() - 8).T / 4)


def test_the_largest_codes_and_numbers_do_not_overflow():
    codes = Codes.pack(torch.full((16, 4096), 15, dtype=torch.uint8), torch.ones(16, 1), None, 4, 4096)
    for largest in (127.0 * 65793, -128.0 * 65793, 1.0e33, 2.0**-90):
        x = torch.full((3, 4096), largest)
        torch.testing.assert_close(product(x, codes) / 4096, x[:, :16] * 7, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_number_spoils_its_own_token_of_codes_of_4_bits(bad):
    x = torch.randn(3, 64)
    x[1, 40] = bad
    got = product(x, Codes.pack(torch.ones(16, 64, dtype=torch.uint8), torch.rand(16, 1), None, 4, 64))
    assert got[1].isnan().all()
    assert got[[0, 2]].isfinite().all()


@settings(max_examples=60, deadline=None)
@given(coded((8,), whole=True), st.integers(1, 20))
def test_whole_products_are_exact(drawn, tokens):
    codes, _, (plain, scale, _) = drawn
    x = torch.randn(tokens, codes.shape[1], generator=torch.Generator().manual_seed(tokens)) * 3
    x[0, :5] = torch.tensor([0.0, -0.0, 1e-3, 100.0, -127.5])
    assert torch.equal(product(x, codes), linear_w8a8(x, plain, scale[:, 0].float()))


def test_the_largest_whole_numbers_do_not_overflow():
    plain = torch.tensor([127, -127]).repeat(16, 2048).to(torch.int8)
    codes = Codes.pack(plain, torch.ones(16, 1), None, 8, 4096)
    x = plain[:1].float()
    assert product(x, codes).tolist() == [[127.0 * 127 * 4096] * 16]


@settings(max_examples=60, deadline=None)
@given(coded())
def test_codes_come_back_from_their_tiles(drawn):
    codes, _, parts = drawn
    for want, got in zip(parts, codes.unpacked(), strict=True):
        assert want is got is None or torch.equal(got, want)
    rows = torch.tensor([codes.shape[0] - 1, 0, 3])
    for want, got in zip(parts, codes.unpacked(rows), strict=True):
        assert want is got is None or torch.equal(got, want[rows])


@pytest.mark.parametrize("whole", [False, True])
def test_a_token_has_the_same_bits_whatever_stands_beside_it(whole):
    x = torch.randn(8, 64)
    plain = torch.randint(-127, 128, (32, 64), dtype=torch.int8)
    matrices = (
        [Codes.pack(plain, torch.rand(32, 1), None, 8, 64)] if whole else [Plain.pack(torch.randn(24, 64))]
    )
    matrices += (
        []
        if whole
        else [
            Plain.pack(torch.randn(24, 64).bfloat16()),
            Codes.pack(plain.view(torch.uint8), torch.rand(32, 2), None, 8, 32),
            Codes.pack(plain.view(torch.uint8) & 15, torch.rand(32, 2), None, 4, 32),
        ]
    )
    for matrix in matrices:
        together = product(x, matrix)
        for count in range(1, 8):
            assert torch.equal(product(x[:count].contiguous(), matrix), together[:count])


@pytest.mark.parametrize("whole", [False, True])
def test_a_nan_is_its_tokens_alone(whole):
    x = torch.randn(3, 64)
    x[1, 40] = float("nan")
    plain = torch.randint(0, 128, (16, 64)).to(torch.int8 if whole else torch.uint8)
    got = product(x, Codes.pack(plain, torch.rand(16, 1), None, 8, 64))
    assert got[1].isnan().all()
    assert got[[0, 2]].isfinite().all()


def test_threads_change_no_bit():
    before, x = torch.get_num_threads(), torch.randn(5, 96)
    codes = Codes.pack(
        torch.randint(0, 16, (48, 96), dtype=torch.uint8), torch.rand(48, 3), torch.randn(48, 3), 4, 32
    )
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(product(x, codes))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("rows", "columns", "bits", "group", "fits"),
    [
        (16, 32, 4, 32, True),
        (16, 96, 8, 64, True),
        (32, 64, 4, 100, True),
        (24, 32, 4, 32, False),
        (16, 48, 4, 32, False),
        (16, 64, 4, 16, False),
        (16, 64, 4, 48, False),
        (16, 64, 3, 32, False),
    ],
)
def test_codes_fit_in_whole_tiles(rows, columns, bits, group, fits):
    assert Codes.fit(rows, columns, bits, group) == fits


def test_what_the_kernels_cannot_read():
    weight = torch.randn(4, 32)
    assert can_read(weight)
    assert can_read(weight.bfloat16())
    assert not can_read(weight.half())
    assert not can_read(weight[:, :31].contiguous())
    assert not can_read(weight.to("meta"))
    codes = Codes.pack(torch.zeros(16, 32, dtype=torch.uint8), torch.ones(16, 1), None, 8, 32)
    assert can_read(codes)
    assert not can_read(codes._replace(codes=codes.codes.to("meta")))
