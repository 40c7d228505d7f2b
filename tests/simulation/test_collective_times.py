"""Times of collectives, against steps counted by hand."""

import pytest

from helpers.simulation import Wire

SLOW = Wire(latency=1.0, bandwidth=10.0)
FREE = Wire(latency=0.0, bandwidth=10.0)


def test_a_step_has_one_latency_and_its_messages_share_the_link():
    assert SLOW.send(20) == 3.0
    assert SLOW.all_gather(20, 3) == 1 + 2 * 2.0
    assert SLOW.reduce_scatter(30, 3) == 1 + 2 * 1.0
    assert SLOW.all_to_all(40, 4) == 1 + 3.0


def test_an_all_reduce_takes_two_steps_for_much_and_one_for_little():
    assert SLOW.all_reduce(1, 3) == 1 + 2 / 10
    assert SLOW.all_reduce(300, 3) == 2 * (1 + 2 * 100 / 10)
    assert SLOW.all_reduce(300, 2) == 1 + 300 / 10
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


def test_a_wire_is_found_from_its_own_times():
    sizes = [10, 200, 4000, 80_000]
    found = Wire.fitted(sizes, [SLOW.send(size) for size in sizes])
    assert (found.latency, found.bandwidth) == pytest.approx((1.0, 10.0))
    free = Wire.fitted([10, 20], [1.0, 2.1])  # a line through these would begin below 0
    assert free.latency == 0.0
    assert free.bandwidth == pytest.approx(9.76, abs=0.02)


def test_the_relative_error_counts():
    sizes, off = [10, 20, 100_000], [1.1, 1.1, 0.9]
    found = Wire.fitted(sizes, [SLOW.send(size) * factor for size, factor in zip(sizes, off, strict=True)])
    assert 1.0 < found.latency < 4.0  # the largest message alone would say thousands
    assert found.bandwidth == pytest.approx(10 / 0.9, rel=0.02)


def test_times_that_give_no_wire_are_refused():
    for sizes, seconds in (([1], [1.0]), ([1, 1], [1.0, 2.0]), ([1, 2], [1.0]), ([1, 2], [0.0, 1.0])):
        with pytest.raises(ValueError, match="two sizes or more"):
            Wire.fitted(sizes, seconds)
    with pytest.raises(ValueError, match="do not grow"):
        Wire.fitted([1, 1000], [2.0, 1.0])
