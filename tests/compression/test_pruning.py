"""Masks keep what counts most; a model without layers is a model."""

import pytest
import torch

from helpers.caches import KVCache
from helpers.compression import importance, keep_largest, keep_two_of_four, without_layers
from helpers.model import FlatBatch, generate
from tests.tiny import reference, twin


def test_each_row_keeps_its_largest():
    weight = torch.tensor([[1.0, -9.0, 3.0, 0.5], [0.1, 0.2, -0.4, 0.3]])
    assert keep_largest(importance(weight), 0.5).tolist() == [
        [False, True, True, False],
        [False, False, True, True],
    ]
    assert keep_largest(importance(weight), 1.0).all()


def test_wanda_asks_how_loud_a_channel_is():
    weight, squares = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([100.0, 4.0, 1.0])
    assert importance(weight, squares).tolist() == [[10.0, 4.0, 3.0]]


def test_two_of_four_neighbours_stay():
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0, 1.0, 2.0, 3.0, 4.0]])
    assert keep_two_of_four(scores).int().tolist() == [[1, 1, 0, 0, 0, 0, 1, 1]]
    with pytest.raises(ValueError, match="rows of 6 weights are not whole fours"):
        keep_two_of_four(torch.ones(1, 6))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        keep_largest(torch.ones(1, 4), share)


def test_a_shorter_model_has_shorter_caches():
    model = twin(reference("llama")).pack()
    shorter = without_layers(model, {1})
    assert (shorter.cfg.num_layers, model.cfg.num_layers, len(model.layers)) == (1, 2, 2)
    cache = KVCache(1, 1, 16, num_kv_heads=2, head_dim=8)
    alone = generate(shorter, [5, 6, 7], 4).token_ids
    assert generate(shorter, [5, 6, 7], 4, cache).token_ids == alone
    assert not torch.equal(shorter(FlatBatch.pack([[5]])), model(FlatBatch.pack([[5]])))


@pytest.mark.parametrize("dropped", [{2}, {-1}, {0, 1}])
def test_layers_that_cannot_be_dropped(dropped):
    with pytest.raises(ValueError, match=r"the model has layers 0 to 1|at least one layer"):
        without_layers(twin(reference("llama")), dropped)
