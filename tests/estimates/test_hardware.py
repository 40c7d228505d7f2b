"""The accelerator table keeps figures, units and status together."""

import pytest

from helpers.estimates import ACCELERATORS, GiB, accelerator


@pytest.mark.parametrize("item", ACCELERATORS.values(), ids=lambda item: item.name)
def test_every_figure_has_a_status_and_a_source(item):
    for figure in (item.memory, item.bandwidth, item.peak("fp16"), item.peak("int8")):
        assert figure.source
        assert (figure.value is None) == (figure.status == "unknown")
    assert item.peak("int8").value == 2 * item.peak("fp16").value
    assert item.handover.source
    assert item.handover.status in ("official", "reported")


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("910B1", 363.7),
        ("910B2", 353.9),
        ("910B3", 294.9),
        ("910B4", 245.8),
        ("310P3", 69.5),
        ("950PR", 432.5),
    ],
)
def test_derived_peaks(name, teraflops):
    peak = accelerator(f"Ascend {name}").peak("fp16")
    assert peak.value / 1e12 == pytest.approx(teraflops, abs=0.05)
    assert peak.status == "derived"


def test_memory_is_in_bytes():
    assert accelerator("Ascend 910B4").memory.value == 32 * GiB


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="unknown accelerator '910Z'; known are Ascend 910B1"):
        accelerator("910Z")
    with pytest.raises(ValueError, match="no fp8 cube rate"):
        accelerator("Ascend 910B1").peak("fp8")
    with pytest.raises(ValueError, match="no bf16 cube rate"):
        accelerator("Ascend 310P3").peak("bf16")
