"""A rank that dies is named."""

import pytest

from helpers.parallel import RankFailed, Ranks, ending


def test_the_dead_rank_is_named():
    with Ranks(2) as ranks, pytest.raises(RankFailed, match="rank 1 of 2: ended without an answer") as failed:
        ranks.run(ending.dies, 1)
    assert failed.value.rank == 1
    assert ranks.pids == []
