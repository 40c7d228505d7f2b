"""A stage: it holds its layers alone, and the stages in a row are the model."""

import pytest
import torch

from helpers.caches import PagedKVCache
from helpers.model import FlatBatch
from helpers.parallel import Collectives, Grid, load_stage
from tests.parallel import toys


@pytest.mark.parametrize("name", toys.CONFIGS)
def test_stages_in_a_row_are_the_model(folders, name):
    batch, hidden = FlatBatch.pack([[5, 96, 2, 0], [8]]), None
    expected = toys.whole(folders[name])(batch)
    for stage in range(3):
        model = load_stage(Grid(3, stage, Collectives()), folders[name])
        assert len(model.layers) == 1
        hidden = model.run(batch, PagedKVCache.for_model(model, 4), hidden)
    assert torch.allclose(hidden, expected, atol=1e-4)


def test_weights_of_stages_make_the_model_and_a_tied_matrix_is_held_twice(folders):
    for name, twice in (("llama", 97 * 36), ("qwen2", 0)):
        one = sum(p.numel() for p in toys.whole(folders[name]).parameters())
        stages = [load_stage(Grid(3, stage, Collectives()), folders[name]) for stage in range(3)]
        assert sum(p.numel() for model in stages for p in model.parameters()) == one + twice + 2 * 36


def test_a_stage_without_layers_is_refused(folders):
    with pytest.raises(ValueError, match="2 stages share 3 layers in order"):
        load_stage(Grid(2, 0, Collectives()), folders["llama"], split=[range(3), range(3, 3)])
