"""The virtual clock moves when it is told to, the wall clock by itself; neither goes back."""

import pytest

from helpers.traffic import VirtualClock, WallClock


def test_the_virtual_clock_is_set_back_for_a_moment_and_never_moved_back():
    clock = VirtualClock()
    clock.advance(2.0)
    with clock.back_at(1.0):
        assert clock() == 1.0
    assert clock() == 2.0
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="forward"):
            clock.advance(wrong)


def test_both_clocks_wait_until_a_moment():
    wall = WallClock()
    before = wall()
    wall.advance(0.01)
    wall.wait_until(before + 0.02)
    assert wall() >= before + 0.02
    with wall.back_at(0.5):
        assert wall() == 0.5
    assert wall() > before
    virtual = VirtualClock()
    virtual.wait_until(3.0)
    virtual.wait_until(2.0)
    assert virtual() == 3.0
    for clock in (wall, virtual):
        with pytest.raises(ValueError, match="forward"):
            clock.advance(-1.0)
