"""Sums over ranks of quantised products."""

import torch

from tests.parallel.low_bit import quantised_toys as quantised


def test_a_nan_of_one_rank_reaches_all_ranks(folders, ranks_of):
    for out in ranks_of(2).run(quantised.broken_input, folders["llama"]):
        assert bool(out[0].isfinite().all())
        assert bool(out[1].isnan().all())


def test_whole_numbers_add_up_exactly(folders, ranks_of):
    """Each element of the product is a sum of whole numbers: ranks change no bit of it."""
    one = quantised.exact_product(folders["biases"])
    for world in (2, 3):
        for out in ranks_of(world).run(quantised.exact_product, folders["biases"]):
            assert torch.equal(out, one)
