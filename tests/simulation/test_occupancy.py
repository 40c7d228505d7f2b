"""Occupancy counts what a cache would hold: small traces by hand, any trace against the sums that must hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.simulation import Occupancy, replay_occupancy


def test_one_request_pass_by_pass():
    seen = replay_occupancy([(5, 4)], num_slots=16, page_size=4)
    assert seen.filled == (5, 6, 7, 8), "the last of the four new tokens is never cached"
    assert seen.taken == (8, 8, 8, 8)
    assert seen.running == (1, 1, 1, 1)
    assert (seen.passes, seen.busy, seen.preemptions, seen.recomputed) == (4, 0, 0, 0)


def test_a_page_as_long_as_the_longest_request_is_a_row():
    seen = replay_occupancy([(5, 4), (10, 2), (1, 1)], num_slots=32, page_size=16)
    assert seen.running == (2, 2, 2, 1), "the third waits for a row, however short it is"
    assert seen.taken == (32, 32, 32, 16)
    assert seen.filled == (15, 17, 8, 8)
    assert seen.busy == 2


def test_the_request_that_joined_last_is_preempted_and_computed_again():
    seen = replay_occupancy([(4, 4), (3, 6)], num_slots=8, page_size=4)
    assert seen.running == (2, 1, 1, 1, 1, 1, 1, 1, 1)
    assert seen.filled == (7, 5, 6, 7, 4, 5, 6, 7, 8)
    assert (seen.preemptions, seen.recomputed, seen.busy) == (1, 3, 3)


def test_a_preempted_request_comes_before_those_that_never_ran():
    seen = replay_occupancy([(6, 4), (3, 4), (1, 1)], num_slots=12, page_size=4)
    assert seen.running == (2, 2, 1, 1, 2, 1), (
        "the second joins again when the first has ended, the third with it"
    )
    assert seen.filled == (9, 11, 8, 9, 6, 6)
    assert (seen.preemptions, seen.recomputed) == (1, 4)


def test_shares_are_averages_while_there_is_a_queue():
    seen = Occupancy(100, (4, 2, 1), (80, 60, 20), (40, 40, 1), 2, 0, 0)
    assert seen.shares == pytest.approx((0.4, 0.3, 0.3))
    assert seen.mean_running == 3
    assert Occupancy(100, (4,), (80,), (40,), 0, 0, 0).shares == (0, 0, 1)


def test_an_empty_trace():
    assert replay_occupancy([], 16, 4).passes == 0


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), max_size=12),
    num_slots=st.integers(24, 60),
    page_size=st.sampled_from([1, 2, 3, 4, 20]),
)
def test_sums_that_must_hold(requests, num_slots, page_size):
    seen = replay_occupancy(requests, num_slots, page_size)
    for running, taken, filled in zip(seen.running, seen.taken, seen.filled, strict=True):
        assert filled <= taken <= num_slots
        assert taken % page_size == 0
        assert taken - filled < running * page_size, "each request wastes less than a page"
    assert sum(seen.running) == sum(new for _, new in requests), "a pass gives each a token"
    assert seen.passes >= max((new for _, new in requests), default=0)
    if page_size == 20:
        assert seen.preemptions == 0, "a row is never too short"
    computed = sum(prompt + new - 1 for prompt, new in requests)
    assert seen.recomputed <= seen.preemptions * 20
    assert sum(seen.filled) >= computed


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ((0, 3), "1 or more prompt tokens"),
        ((3, 0), "1 or more prompt tokens"),
        ((12, 6), "does not fit into 16"),
    ],
)
def test_what_can_never_be_served_is_refused(request_, words):
    with pytest.raises(ValueError, match=words):
        replay_occupancy([(2, 2), request_], 16, 4)


def test_what_just_fits_is_served():
    assert replay_occupancy([(12, 5)], 16, 4).filled[-1] == 16
