"""Stages: layers weighed by their matrices, the head with the last ones."""

from itertools import combinations

import pytest

from helpers.parallel import head_weight, layer_weight, split_layers, stage_weights
from tests.parallel.test_shards import DEFAULT


def test_the_head_of_the_default_model_weighs_eight_layers():
    assert head_weight(DEFAULT) == 8 * layer_weight(DEFAULT)
    assert [len(part) for part in split_layers(DEFAULT, 2)] == [19, 11]
    assert [len(part) for part in split_layers(DEFAULT, 3)] == [13, 13, 4]
    assert len(set(stage_weights(DEFAULT, split_layers(DEFAULT, 2)))) == 1
    even = stage_weights(DEFAULT, [range(15), range(15, 30)])
    assert round(sum(even) / max(even), 2) == 1.65


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_no_other_split_has_a_lighter_heaviest_stage(stages):
    found = split_layers(DEFAULT, stages)
    assert [layer for part in found for layer in part] == list(range(30))
    others = (
        max(stage_weights(DEFAULT, [range(a, b) for a, b in zip((0, *cuts), (*cuts, 30), strict=True)]))
        for cuts in combinations(range(1, 30), stages - 1)
    )
    assert max(stage_weights(DEFAULT, found)) == min(others)


def test_more_stages_than_layers_are_refused():
    assert len(split_layers(DEFAULT, 30)) == 30
    for stages in (0, 31):
        with pytest.raises(ValueError, match="30 layers go to 1 to 30 stages"):
            split_layers(DEFAULT, stages)
