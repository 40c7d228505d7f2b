"""Operators as their formulas read give what those of `helpers.ops` give."""

import pytest
import torch

from helpers import KVCache, ops
from helpers.graphs import WRITTEN_OUT, swapped, written_out
from helpers.model import generate
from tests.tiny import CONFIGS, reference, twin


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_is_that_of_ops(dtype):
    torch.manual_seed(0)
    x, residual = torch.randn(2, 3, 8).to(dtype)
    weight = torch.rand(8).to(dtype)
    want = ops.add_rms_norm(x, residual.clone(), weight, 1e-5)
    got = written_out.add_rms_norm(x, residual, weight, 1e-5)
    rounding = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=rounding, atol=rounding)


def test_large_numbers_in_half_precision_do_not_overflow():
    x = torch.full((1, 4), 300.0, dtype=torch.float16)
    normed, _ = written_out.add_rms_norm(x, x, torch.ones(4, dtype=torch.float16), 1e-5)
    assert normed.tolist() == [[1.0] * 4]


@pytest.mark.parametrize("name", CONFIGS)
def test_models_written_out_choose_the_same_tokens(name):
    model = twin(reference(name))
    plain = generate(model, [5, 96, 3, 41], 8, KVCache.for_model(model, 1, 16))
    with swapped(**WRITTEN_OUT):
        written = generate(model, [5, 96, 3, 41], 8, KVCache.for_model(model, 1, 16))
    assert written.token_ids == plain.token_ids
