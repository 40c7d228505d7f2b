"""A grid of one rank; test_pipeline_batching has grids of two to four."""

import pytest

from helpers.parallel import Grid


def test_one_rank_is_one_stage():
    grid = Grid.of_all(1)
    assert (grid.stages, grid.stage, grid.width, grid.last, grid.sent) == (1, 0, 1, 0, 0)
    grid.flush()
    with pytest.raises(ValueError, match="divides them, got 0"):
        Grid.of_all(0)
