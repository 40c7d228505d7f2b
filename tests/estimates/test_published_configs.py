"""Published models with layers of their own: their weights as published, their layers, and names that are not known."""

import pytest

from helpers.estimates import (
    PUBLISHED_CONFIGS,
    MemoryCalculator,
    SizedModel,
    kv_cache_bytes,
    published_config,
    published_shape,
    quantised_bytes,
)
from helpers.model import PUBLISHED, count_params


@pytest.mark.parametrize("name", PUBLISHED_CONFIGS)
def test_the_weights_are_as_many_as_were_published(name):
    assert count_params(published_config(name)) == PUBLISHED_CONFIGS[name].num_params


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("Mistral-7B-v0.1", 14_483_464_192),
        ("Mixtral-8x7B", 93_405_585_408),
        ("Qwen3-30B-A3B", 61_064_245_248),
    ],
)
def test_two_bytes_for_each_weight_are_the_total_size_of_the_published_index(name, stored):
    assert 2 * PUBLISHED_CONFIGS[name].num_params == stored


@pytest.mark.parametrize(
    ("name", "billions"), [("gpt-oss-20b", 3.61), ("Mixtral-8x7B", 12.7), ("Qwen3-30B-A3B", 3.0)]
)
def test_a_token_meets_as_many_weights_as_were_published(name, billions):
    """With the output matrix, without the embedding: arXiv:2508.10925, table 1; arXiv:2401.04088 and
    arXiv:2505.09388 say 12.9 and 3.3 billion with both."""
    shape = published_shape(name)
    active = sum(layer.active for layer in shape.layers) + shape.vocab_size * shape.hidden_size
    assert active / 1e9 == pytest.approx(billions, abs=0.06)


def test_a_quantised_model_weighs_what_its_published_index_says():
    """gpt-oss-20b: `total_size` of the index; arXiv:2508.10925, table 1, rounds it to 12.8 GiB."""
    model = SizedModel.of(published_config("gpt-oss-20b"))
    assert model.weights == quantised_bytes(published_config("gpt-oss-20b")) == 13_761_264_768
    assert round(model.weights / 2**30, 1) == 12.8


def test_a_shape_is_read_once_and_has_its_name():
    gemma = published_shape("Gemma-3-1B")
    assert gemma is published_shape("Gemma-3-1B")
    assert gemma.name == "Gemma-3-1B"
    assert [layer.window for layer in gemma.layers].count(512) == 22
    assert kv_cache_bytes(gemma, 1, 1) == 26 * 2 * 256 * 2
    assert published_shape("Llama-3-8B") is PUBLISHED["Llama-3-8B"]


def test_a_sized_model_is_estimated_like_its_shape():
    gemma, calculator = published_shape("Gemma-3-1B"), MemoryCalculator()
    sized = SizedModel.of(gemma, "int8")
    assert SizedModel.of(sized) is sized
    assert SizedModel.of(sized, "bf16") == SizedModel.of(gemma, "bf16")
    assert calculator.estimate_total_memory(sized, 2, 600) == calculator.estimate_total_memory(
        gemma, 2, 600, "int8"
    )
    most = calculator.max_batch_size(sized, 600, 2**33)
    assert most == calculator.max_batch_size(gemma, 600, 2**33, "int8") > 0


def test_an_unknown_name_is_refused_with_the_known_ones():
    for ask in (published_config, published_shape):
        with pytest.raises(
            ValueError, match=r"no config of 'GPT-9' is known here; there are Mistral-7B-v0\.1, "
        ):
            ask("GPT-9")
