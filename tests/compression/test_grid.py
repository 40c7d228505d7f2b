"""Grids: the smallest and the largest weight lie within half a step, whatever the scale's type rounds to."""

import pytest
import torch

from helpers.compression import grid_between
from helpers.estimates import NumberFormat


@pytest.mark.parametrize("scale", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("offset", ["none", "minimum", "zero"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_both_ends_of_a_group_lie_within_half_a_step(bits, offset, scale):
    draw = torch.Generator().manual_seed(0)
    ends = torch.randn(2, 2000, generator=draw) * 10 ** torch.empty(2000).uniform_(-4, 3, generator=draw)
    low, high = ends.amin(0), ends.amax(0)
    grid = grid_between(low, high, NumberFormat(bits, "row", offset, scale))
    for end in (low, high):
        error = (grid.values(grid.codes(end)) - end).abs()
        assert (error <= 0.5001 * grid.scale).all()


def test_a_far_minimum_needs_a_larger_step():
    """100.01 is no bf16 number: the step grows until the group is reached from the number below."""
    low, high = torch.tensor([100.2]), torch.tensor([100.3])
    grid = grid_between(low, high, NumberFormat(8, 32, "minimum", "bf16"))
    assert grid.minimum.item() == 100.0
    assert grid.values(torch.tensor([255.0])) >= high


def test_zero_is_a_value_of_every_grid_but_one_with_a_minimum():
    low, high = torch.tensor([1.0, -7.0]), torch.tensor([2.0, -6.5])
    for offset in ("none", "zero"):
        grid = grid_between(low, high, NumberFormat(4, 32, offset))
        assert grid.values(grid.codes(torch.zeros(2))).tolist() == [0.0, 0.0]


def test_a_group_of_equal_weights_keeps_them():
    same = torch.tensor([0.0, 0.25, -3.0])
    grid = grid_between(same, same, NumberFormat(4, 32, "minimum"))
    assert torch.equal(grid.values(grid.codes(same)), same)


def test_weights_outside_are_clamped():
    grid = grid_between(torch.tensor([-1.0]), torch.tensor([1.0]), NumberFormat(4))
    assert grid.codes(torch.tensor([9.0])).item() == 15
    assert grid.codes(torch.tensor([-9.0])).item() == 1


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e9])
def test_what_no_scale_can_hold_is_refused(weight):
    with pytest.raises(ValueError, match="not finite, or too large for scales in fp16"):
        grid_between(torch.tensor([0.0]), torch.tensor([weight]), NumberFormat(4, 32, "minimum"))
