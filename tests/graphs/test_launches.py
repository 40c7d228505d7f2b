"""Time lines and predictions by calls and bytes."""

import pytest
import torch

from helpers.graphs import call_seconds, step_seconds, time_line


def test_a_device_waits_for_the_host_or_the_host_is_ahead():
    line = time_line([1.0, 1.0, 9.0, 1.0], 5.0)
    assert [one.launched for one in line] == [(0.0, 5.0), (5.0, 10.0), (10.0, 15.0), (15.0, 20.0)]
    assert [one.ran for one in line] == [(5.0, 6.0), (10.0, 11.0), (15.0, 24.0), (24.0, 25.0)]


def test_a_graph_is_launched_once():
    line = time_line([1.0, 2.0, 3.0], 5.0, graph=True)
    assert [one.launched for one in line] == [(0.0, 5.0), (5.0, 5.0), (5.0, 5.0)]
    assert [one.ran for one in line] == [(5.0, 6.0), (6.0, 8.0), (8.0, 11.0)]


def test_times_are_not_negative():
    with pytest.raises(ValueError, match="times are 0 or more"):
        time_line([1.0], -1.0)
    with pytest.raises(ValueError, match="times are 0 or more"):
        time_line([1.0, -1.0], 1.0)


def test_a_step_is_the_sum_on_a_cpu_and_the_larger_one_on_an_accelerator():
    assert step_seconds(1000, 2e-6, 1e9, 1e11) == pytest.approx(0.002 + 0.01)
    assert step_seconds(1000, 2e-6, 1e9, 1e11, overlapped=True) == 0.01
    assert step_seconds(10_000, 2e-6, 1e9, 1e11, overlapped=True) == 0.02


@pytest.mark.parametrize("numbers", [(-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, 0)])
def test_what_is_no_step_is_refused(numbers):
    with pytest.raises(ValueError, match="counts of 0 or more and a bandwidth"):
        step_seconds(*numbers)


def test_a_call_takes_time():
    assert 0 < call_seconds(torch.device("cpu"), repeats=20) < 60
