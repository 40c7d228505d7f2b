"""Weights outside the layers, beside those that a tiny model of `transformers` has by name."""

import pytest

from helpers.model import PUBLISHED, ModelEnds, ModelShape
from tests.families import ALTERNATING, family


def ends(kind, **fields):
    return ModelShape.from_hf(family(kind, **fields)).ends


def test_a_llama_has_a_norm_and_a_row():
    assert ends("llama") == ModelEnds(matrices=0, vectors=64, row=64)


def test_a_published_row_is_like_a_llama():
    assert PUBLISHED["SmolLM2-135M"].ends == ModelEnds(matrices=0, vectors=576, row=576)


@pytest.mark.parametrize("inputs", [2, 4])
def test_gemma_3n_has_streams_and_inputs_of_layers(inputs):
    """One matrix for each other stream before the layers, one after; a projection to 8 elements for each of 4 layers."""
    found = ends(
        "gemma3n_text", head_dim=16, layer_types=ALTERNATING, num_kv_shared_layers=0, altup_num_inputs=inputs,
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=96, activation_sparsity_pattern=[0.0] * 4,
    )  # fmt: skip
    assert found.matrices == 2 * (inputs - 1) * 64 * 64 + 64 * 4 * 8
    assert (found.vectors, found.row) == (64 + 8, 64 + 4 * 8)


def test_positions_are_rows_and_biases_do_not_count():
    assert ends("gpt2", n_layer=2) == ModelEnds(matrices=0, vectors=64, row=2 * 64)
