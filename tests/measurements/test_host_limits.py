"""Measured ceilings: kept, read back, measured again when damaged."""

import pytest
import torch

from helpers.estimates import Ceilings
from helpers.measurements import host_ceilings, host_limits, measure_bandwidth, measure_flops

CPU = torch.device("cpu")


@pytest.fixture
def counted(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    calls = []
    monkeypatch.setattr(host_limits, "measure_bandwidth", lambda *_: calls.append("bandwidth") or 2e10)
    monkeypatch.setattr(host_limits, "measure_flops", lambda *_: calls.append("flops") or 1e11)
    return calls


def test_measured_once_per_dtype_and_again_on_demand(counted):
    assert host_ceilings(CPU) == host_ceilings(CPU) == Ceilings(2e10, 1e11)
    assert counted == ["bandwidth", "flops"]
    host_ceilings(CPU, torch.bfloat16)
    host_ceilings(CPU, torch.bfloat16)
    host_ceilings(CPU, again=True)
    assert counted == ["bandwidth", "flops"] * 3


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"flops": "x"}}'])
def test_a_damaged_record_is_replaced(counted, tmp_path, content):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "ceilings.json").write_text(content)
    assert host_ceilings(CPU) == host_ceilings(CPU)
    assert counted == ["bandwidth", "flops"]


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(counted, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert host_ceilings(CPU) == host_ceilings(CPU)
    assert counted == ["bandwidth", "flops"] * 2


def test_what_is_measured_is_of_this_world():
    assert 1e5 < measure_bandwidth(CPU, nbytes=2**24) < 1e13
    assert 1e5 < measure_flops(CPU, torch.float32, size=256) < 1e16
