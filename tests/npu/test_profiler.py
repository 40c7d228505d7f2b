"""What the NPU's profiler is asked for; the vendor's profiler itself is not emulated."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
import torch_npu

from helpers.machine import choose_device, device_trace


@pytest.fixture
def asked(monkeypatch):
    """The arguments that torch_npu's profiler gets; it records nothing."""
    found = {}

    @contextmanager
    def profile(**options):
        found.update(options)
        yield

    monkeypatch.setattr(torch_npu.profiler, "profile", profile)
    return found


def test_pipes_are_asked_for_at_a_level_that_records_them(asked, tmp_path):
    """At level 0 torch_npu resets the metric that says how busy the pipes were."""
    with device_trace(choose_device("emulated-npu"), tmp_path):
        torch.ones(2).npu()
    profiler = torch_npu.profiler
    config = asked["experimental_config"]
    assert config._profiler_level == profiler.ProfilerLevel.Level1
    assert config._aic_metrics == profiler.AiCMetrics.PipeUtilization
    silent = profiler._ExperimentalConfig()
    assert silent._aic_metrics == profiler.AiCMetrics.AiCoreNone
