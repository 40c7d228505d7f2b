"""Times of collectives, against steps counted by hand."""

import pytest

from helpers.simulation import Wire

SLOW = Wire(latency=1.0, bandwidth=10.0)
FREE = Wire(latency=0.0, bandwidth=10.0)


def test_one_message_and_a_ring_by_hand():
    assert SLOW.send(20) == 3.0
    assert SLOW.all_gather(20, 3) == 2 * 3.0
    assert SLOW.reduce_scatter(30, 3) == 2 * 2.0
    assert SLOW.all_to_all(40, 4) == 1 + 3.0


def test_an_all_reduce_takes_the_ring_for_much_and_one_step_for_little():
    assert SLOW.all_reduce(1, 3) == 1 + 2 / 10
    assert SLOW.all_reduce(300, 3) == 4 * (1 + 100 / 10)
    for world in (2, 3, 8):  # without latency: 2 (n - 1) / n of the data, in and out
        assert FREE.all_reduce(1000, world) == pytest.approx(2 * (world - 1) / world * 100)


def test_one_device_says_nothing():
    assert SLOW.all_reduce(9, 1) == SLOW.all_gather(9, 1) == SLOW.all_to_all(9, 1) == 0.0


def test_what_cannot_be_is_refused():
    for latency, bandwidth in ((-1, 1), (0, 0), (float("nan"), 1)):
        with pytest.raises(ValueError, match="latency is 0 or more"):
            Wire(latency, bandwidth)
    for call in (SLOW.all_gather, SLOW.all_reduce, SLOW.all_to_all):
        with pytest.raises(ValueError, match="1 device or more"):
            call(1, 0)
