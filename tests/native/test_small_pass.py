"""Products of the native pass against torch's, and what the pass refuses to compute."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.native import can_compute, kernels, product

pytestmark = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 40), st.integers(1, 8), st.sampled_from([torch.float32, torch.bfloat16])
)
def test_a_product_is_torchs(tokens, rows, columns, dtype):
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, 16 * columns, generator=generator)
    weight = torch.randn(rows, 16 * columns, generator=generator).to(dtype)
    torch.testing.assert_close(product(x, weight), x @ weight.float().T, atol=2e-5, rtol=1e-5)


def test_a_token_has_the_same_bits_whatever_stands_beside_it():
    x, weight = torch.randn(8, 64), torch.randn(24, 64)
    together = product(x, weight)
    for count in range(1, 8):
        assert torch.equal(product(x[:count].contiguous(), weight), together[:count])


def test_what_it_cannot_compute_is_left_to_operators():
    weight = torch.randn(4, 32)
    assert can_compute([weight, weight], 16)
    assert not can_compute([weight, weight.bfloat16()], 16)
    assert not can_compute([weight.half()], 16)
    assert not can_compute([weight[:, :31].contiguous()], 16)
    assert not can_compute([weight.T], 16)
    assert not can_compute([weight], 15)
    assert not can_compute([weight], 2048)
    assert not can_compute([weight.to("meta")], 16)
