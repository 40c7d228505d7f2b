"""Times of messages: one for each size, on each rank; how long they are is no matter of a test."""

import pytest

from helpers.parallel import wire_times


@pytest.mark.parametrize("measure", [wire_times.send_seconds, wire_times.all_reduce_seconds])
def test_each_size_has_its_time(ranks_of, measure):
    for found in ranks_of(2).run(measure, [4, 4096, 40], 3):
        assert len(found) == 3
        assert all(0 < seconds < 60 for seconds in found)
