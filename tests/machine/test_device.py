"""Device choice, timing and memory measurement."""

import time

import pytest
import torch

from helpers.machine import Lap, Stopwatch, choose_device, describe, peak_memory, total_memory

CPU = torch.device("cpu")


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert choose_device() == CPU
    monkeypatch.setenv("COURSE_DEVICE", "tpu")
    with pytest.raises(
        ValueError, match="unknown device 'tpu'; COURSE_DEVICE may be one of npu, cuda, cpu, emulated-npu"
    ):
        choose_device()
    assert choose_device("cpu") == CPU, "an argument wins over the environment"


def test_without_a_wish_the_best_device_here_is_chosen(monkeypatch):
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr("helpers.machine.device._present", lambda kind: kind in ("cuda", "cpu"))
    assert choose_device() == torch.device("cuda")


def test_an_absent_device_is_refused(monkeypatch):
    monkeypatch.setattr("helpers.machine.device._present", lambda kind: kind == "cpu")
    with pytest.raises(RuntimeError, match="'npu:1' was asked for"):
        choose_device("npu:1")


def test_stopwatch_measures_the_block():
    with Stopwatch(CPU) as watch:
        time.sleep(0.05)
    assert 0.05 <= watch.seconds < 5


def test_peak_memory_sees_temporaries_and_not_what_was_there_before():
    kept = torch.ones(1_000_000)
    with peak_memory(CPU) as peak:
        torch.empty(500_000)
        kept.add_(1)
        (kept * 2).sum()
    assert peak.nbytes == pytest.approx(4_000_000, rel=0.01)
    with peak_memory(CPU) as two:
        a = kept * 2
        a * kept
    assert two.nbytes == pytest.approx(8_000_000, rel=0.01)


def test_the_machine_is_described():
    assert total_memory(CPU) > 2**28
    assert describe(CPU).startswith("CPU")
    assert describe(CPU).endswith("GiB")


def test_a_lap_gives_the_times_between_its_marks():
    lap = Lap(CPU)
    for pause in (0.0, 0.03, 0.06):
        time.sleep(pause)
        lap.mark()
    first, second = lap.seconds()
    assert 0.03 <= first < second < 5
    assert second >= 0.06
