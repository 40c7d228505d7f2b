"""Statistics of inputs, against inputs that a test computes itself."""

import pytest
import torch

from helpers.compression import calibrate, output_error
from helpers.ops import rms_norm
from tests.tiny import reference, twin

TEXTS = [[5, 96, 3, 3, 41], [7, 7]]


def test_the_first_matrix_sees_normed_embeddings():
    model = twin(reference("llama"))
    found = calibrate(model, TEXTS, grams=["layers.0.attn.qkv_proj"])
    tokens = torch.tensor([*TEXTS[0], *TEXTS[1]])
    x = rms_norm(model.embed_tokens(tokens), model.layers[0].input_norm, model.layers[0].eps)
    first = found["layers.0.attn.qkv_proj"]
    torch.testing.assert_close(first.largest, x.abs().amax(0))
    torch.testing.assert_close(first.gram, x.t() @ x)
    torch.testing.assert_close(first.squares, first.gram.diagonal())
    assert first.outlier_ratio == pytest.approx(float(first.largest.max() / first.largest.median()))


def test_all_matrices_are_seen_and_no_hook_stays():
    model = twin(reference("llama tied")).pack()
    found = calibrate(model, TEXTS)
    assert len(found) == 8
    assert all(one.gram is None for one in found.values())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_each_matrix_is_told_once():
    told = []
    found = calibrate(twin(reference("llama tied")), TEXTS, tell=told.append)
    assert sorted(told) == sorted(found)


def test_an_unknown_matrix_is_refused():
    with pytest.raises(ValueError, match=r"no matrix 'layers\.9"):
        calibrate(twin(reference("llama")), TEXTS, grams=["layers.9.attn.o_proj"])


def test_output_error_is_the_sum_of_squares_of_outputs():
    x, change = torch.randn(7, 4), torch.randn(3, 4)
    expected = float((x @ change.t()).square().sum())
    assert output_error(change, x.t() @ x) == pytest.approx(expected, rel=1e-4)
