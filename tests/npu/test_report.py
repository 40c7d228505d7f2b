"""The report on the emulated NPU: every operator passes there, a wrong kernel is told, and the file says what it ran on."""

from __future__ import annotations

import json

import pytest
import torch
import torch_npu

from helpers import emulated_npu
from helpers.machine import choose_device
from helpers.measurements import Trial, device_report, run_trial, trials, try_operators
from helpers.measurements.device_report import _entry
from helpers.ops import npu_ops


@pytest.fixture(scope="module")
def device():
    return choose_device("emulated-npu")


def test_every_operator_passes_and_ran_there(device):
    with emulated_npu.trace() as names:
        outcomes = try_operators(device)
    assert [o for o in outcomes if not o.passed] == []
    assert any(o.max_error > 0 for o in outcomes), "the same code would give the same bits"
    for part in (
        "AddRmsNorm",
        "SwiGlu",
        "RotaryPositionEmbedding",
        "FusedInferAttentionScore",
        "FlashAttention",
    ):
        assert any(part in name for name in names)


def test_a_wrong_kernel_is_told(device, monkeypatch):
    monkeypatch.setattr(npu_ops, "swiglu", lambda x: x.npu()[..., :48] * 1)
    (trial,) = (t for t in trials(torch.bfloat16) if t.operator == "swiglu")
    assert not run_trial(trial, torch.bfloat16, device).passed


def test_a_refused_call_is_an_outcome(device, monkeypatch):
    monkeypatch.setattr(npu_ops, "swiglu", lambda x: torch_npu.npu_swiglu(x[..., :7].contiguous()))
    outcome = run_trial(Trial("swiglu", "", (torch.ones(2, 8),)), torch.float32, device)
    assert not outcome.passed
    assert "RuntimeError" in outcome.problem
    assert _entry(outcome)["problem"]


def test_the_file_says_that_times_mean_nothing(device, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "emulated-npu")
    monkeypatch.setattr(device_report, "try_operators", lambda device: [])
    path = tmp_path / "report.json"
    assert device_report.main([str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["device"] == {
        "type": "npu",
        "emulated": True,
        "name": "Ascend910B3",
        "memory_bytes": 64 * 2**30,
    }
    assert found["note"].endswith("times mean nothing")
    assert (found["cann"], found["driver"]) == (None, None)
    assert found["versions"]["torch_npu"]
    in_fp32, in_bf16 = found["model"]
    assert in_fp32["cpu_tokens"] is True
    assert in_bf16["new_tokens"] > 0
