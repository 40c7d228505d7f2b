"""Times of blocks and between marks, on a CPU."""

import time

import pytest
import torch

from helpers.machine import Lap, Stopwatch

CPU = torch.device("cpu")


def test_stopwatch_measures_the_block():
    with Stopwatch(CPU) as watch:
        time.sleep(0.05)
    assert watch.seconds >= 0.05


def test_a_lap_gives_the_times_between_its_marks():
    lap = Lap(CPU)
    for pause in (0.0, 0.03, 0.06):
        time.sleep(pause)
        lap.mark()
    first, second = lap.seconds()
    assert first >= 0.03
    assert second >= 0.06


def test_laps_stand_in_the_order_of_their_marks(monkeypatch):
    readings = iter([10.0, 10.5, 12.5, 12.75])
    monkeypatch.setattr(time, "perf_counter", lambda: next(readings))
    lap = Lap(CPU)
    for _ in range(4):
        lap.mark()
    assert lap.seconds() == [0.5, 2.0, 0.25]


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by one second each time it is read."""
    seconds = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))


def test_each_block_is_timed_anew(clock):
    watch = Stopwatch(CPU)
    for _ in range(2):
        with watch:
            time.perf_counter()
        assert watch.seconds == 2


def test_a_block_that_raises_is_timed_and_its_error_is_not_hidden(clock):
    watch = Stopwatch(CPU)
    with pytest.raises(KeyError), watch:
        raise KeyError("lost")
    assert watch.seconds == 1


@pytest.mark.parametrize("marks", [0, 1, 4])
def test_a_lap_has_one_time_less_than_marks(clock, marks):
    lap = Lap(CPU)
    for _ in range(marks):
        lap.mark()
    assert lap.seconds() == [1.0] * max(0, marks - 1)
