"""What a block did on a CPU: its peak of tensor memory, and a trace of its operators."""

import json

import pytest
import torch

from helpers.machine import device_trace, peak_memory

CPU = torch.device("cpu")


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


def test_the_peak_is_the_worst_moment_and_not_the_sum():
    with peak_memory(CPU) as peak:
        for _ in range(5):
            torch.ones(250_000)
    assert peak.nbytes == pytest.approx(1_000_000, rel=0.01)


def test_a_block_without_tensors_has_no_peak():
    with peak_memory(CPU) as peak:
        sum(range(10))
    assert peak.nbytes == 0


def test_a_trace_names_the_operators_of_the_block_alone(tmp_path):
    x = torch.ones(8, 8)
    x.cumsum(0)
    with device_trace(CPU, tmp_path / "new" / "folder"):
        x.softmax(0)
    names = {
        e.get("name") for e in json.loads((tmp_path / "new/folder/trace.json").read_text())["traceEvents"]
    }
    assert "aten::softmax" in names
    assert "aten::cumsum" not in names
