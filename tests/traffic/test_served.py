"""The sums over a batcher's log are its sums."""

import pytest

from helpers.traffic import Served
from tests.traffic.runs import Log, run, state, step


def test_sums():
    served = Served.of(run())
    assert (served.passes, served.answered, served.seconds) == (6, 7, 7.0)
    assert served.computed == 2 + 6 + 2 + 1 + 6 + 2
    assert served.needed == (4 + 3 - 1) + (4 + 4 - 1)
    assert served.wasted == pytest.approx(1 - 13 / 19)
    assert served.throughput == 1.0
    assert served.ttft == (2.0, 1.75)
    assert served.mean_ttft == 1.875
    assert served.tpot == (1.0, pytest.approx(5 / 3))
    assert served.mean_tpot == pytest.approx(4 / 3)
    assert served.largest_gap == 3.0


def test_sums_of_single_tokens_and_of_cached_prompts():
    log = Log([step(0, 1, ("a", 3, 1, False))], [state("a", 0, [1], computed=1)])
    served = Served.of(log)
    assert (served.needed, served.wasted, served.mean_tpot, served.largest_gap) == (1, 0.0, 0.0, 0.0)


def test_an_empty_log_is_refused():
    with pytest.raises(ValueError, match="run the batcher first"):
        Served.of(Log([], []))
