"""Recipes: which matrix has which format, and bytes told from a config alone."""

import pytest

from helpers.compression import INT4, INT8, Q8_0, Recipe
from helpers.estimates import weight_table
from tests.tiny import CONFIGS


def test_a_recipe_names_layers_and_the_head_apart():
    recipe = Recipe(INT4, head=INT8, layers={1})
    assert recipe.format_of("layers.0.mlp.down_proj") is None
    assert recipe.format_of("layers.1.mlp.down_proj") == INT4
    assert recipe.format_of("lm_head") == INT8
    assert Recipe().format_of("lm_head") is None


@pytest.mark.parametrize("name", ["llama", "llama tied"])
def test_a_scheme_says_what_stays(name):
    config = CONFIGS[name]
    scheme = Recipe(INT4, head=Q8_0, layers=[0]).scheme(tied=bool(config.tie_word_embeddings))
    stored = {weight.name: scheme.nbytes(weight) for weight in weight_table(config)}
    assert stored["model.layers.0.mlp.up_proj"] == INT4.nbytes(48, 32)
    assert stored["model.layers.1.mlp.up_proj"] is None
    assert stored["model.norm"] is None
    assert stored["model.embed_tokens"] == (Q8_0.nbytes(97, 32) if name.endswith("tied") else None)
    assert stored.get("lm_head") == (None if name.endswith("tied") else Q8_0.nbytes(97, 32))
