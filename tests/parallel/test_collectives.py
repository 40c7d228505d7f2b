"""Collectives of one rank: they count and change nothing. Several ranks: test_tensor_parallel."""

import pytest
import torch

from helpers.parallel import Collectives


def test_a_group_of_one_counts():
    group, x = Collectives.of_all(), torch.ones(2, 3)
    assert (group.world, group.rank) == (1, 0)
    assert group.all_reduce(x) is x
    assert torch.equal(group.all_gather(x, [3]), x)
    assert group.broadcast(x) is x
    assert group.calls == {"all_reduce": 1, "all_gather": 1, "broadcast": 1}
    assert set(group.nbytes.values()) == {24}
    with pytest.raises(ValueError, match="one of 2 members"):
        Collectives((0, 1), 2)
