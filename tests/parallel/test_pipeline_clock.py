"""The pipeline on paper: idle shares, exactly."""

from fractions import Fraction

import pytest

from helpers.parallel import idle_shares, pipeline_slots


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("passes", [1, 24])
def test_equal_stages_are_idle_as_the_formula_says(stages, groups, passes):
    slots = pipeline_slots([1] * stages, list(range(groups)) * passes)
    end = passes * max(groups, stages) + min(groups, stages) - 1
    assert idle_shares(slots) == [1 - Fraction(groups * passes, end)] * stages


def test_three_stages_and_two_groups():
    assert round(float(idle_shares(pipeline_slots([1] * 3, [0, 1] * 24))[0]), 3) == 0.342


def test_unequal_stages_and_messages():
    slots = pipeline_slots([2, 1], [0, 1, 0], hop=Fraction(1, 2))
    assert [(s.stage, s.begin, s.end) for s in slots] == [
        (0, 0, 2), (1, Fraction(5, 2), Fraction(7, 2)),
        (0, 2, 4), (1, Fraction(9, 2), Fraction(11, 2)),
        (0, 4, 6), (1, Fraction(13, 2), Fraction(15, 2)),
    ]  # fmt: skip
    assert [s.number for s in slots] == [0, 0, 0, 0, 1, 1]
    assert idle_shares(slots) == [1 - Fraction(6) / Fraction(15, 2), 1 - Fraction(3) / Fraction(15, 2)]


@pytest.mark.parametrize(("costs", "hop"), [([], 0), ([1, 0], 0), ([1], -1)])
def test_times_that_cannot_be_are_refused(costs, hop):
    with pytest.raises(ValueError, match="more than 0"):
        pipeline_slots(costs, [0], hop)
