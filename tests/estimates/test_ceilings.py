"""The two lines of a roofline, and where they meet."""

from dataclasses import replace

import pytest

from helpers.estimates import ACCELERATORS, Ceilings, Figure, accelerator, accelerator_ceilings

LIMITS = Ceilings(bandwidth=100.0, flops=800.0)


def test_the_lines_meet_at_the_ridge():
    assert LIMITS.ridge == 8.0
    assert [LIMITS.attainable(x) for x in (2.0, 8.0, 50.0)] == [200.0, 800.0, 800.0]


def test_the_slower_of_two_lines_sets_the_time():
    assert LIMITS.seconds(operations=1600.0, nbytes=100.0) == 2.0
    assert LIMITS.seconds(operations=80.0, nbytes=300.0) == 3.0


def test_an_accelerators_lines_are_the_tables():
    name = "Ascend 910C (one die)"
    limits = accelerator_ceilings(name)
    assert (limits.bandwidth, limits.flops) == (1.6e12, accelerator(name).peak("bf16").value)
    assert accelerator_ceilings(name, "int8", 2e12) == Ceilings(2e12, 2 * limits.flops)


@pytest.mark.parametrize("bandwidth", [None, 0.0, -1.0])
def test_an_unknown_bandwidth_is_refused(bandwidth, monkeypatch):
    unknown = Figure(None, "B/s", "unknown", "no file has it")
    monkeypatch.setitem(ACCELERATORS, "Ascend 910B1", replace(accelerator("Ascend 910B1"), bandwidth=unknown))
    with pytest.raises(ValueError, match="no bandwidth is published, give one"):
        accelerator_ceilings("Ascend 910B1", bandwidth=bandwidth)
