"""The shared clock of one rank; test_tensor_parallel shares one among ranks whose own clocks differ."""

from helpers.parallel import Collectives, SharedClock


def test_the_first_rank_reads_its_clock_and_each_reading_is_a_broadcast():
    group, times = Collectives(), iter([1.25, 2.5])
    clock = SharedClock(group, lambda: next(times))
    assert [clock(), clock()] == [1.25, 2.5]
    assert group.nbytes["broadcast"] == 16
    assert Collectives((0, 1), 1).rank == 1
