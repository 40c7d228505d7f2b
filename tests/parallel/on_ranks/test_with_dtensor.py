"""torch's own cut: right when the fused rows are in the order of the ranks, silently wrong as they are stored."""

import torch

from helpers.model import FlatBatch
from helpers.parallel import with_dtensor


def test_only_rows_in_the_order_of_the_ranks_are_cut_right(ranks_of):
    for right, wrong in zip(
        ranks_of(2).run(with_dtensor.cut, "by ranks"),
        ranks_of(2).run(with_dtensor.cut, "as stored"),
        strict=True,
    ):
        assert right.difference < 1e-4 < 1 < wrong.difference
        assert right.sums == wrong.sums == 4
        assert right.largest == wrong.largest > 1


def test_every_rank_makes_the_same_model():
    batch = FlatBatch.pack([[1, 2, 3]])
    assert torch.equal(with_dtensor.small_model()(batch), with_dtensor.small_model()(batch))
