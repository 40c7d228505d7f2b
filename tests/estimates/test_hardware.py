"""The accelerator table keeps figures, units and standing together; fp16 and bf16 are two figures."""

from dataclasses import replace

import pytest

from helpers.estimates import ACCELERATORS, Figure, GiB, accelerator


@pytest.mark.parametrize("item", ACCELERATORS.values(), ids=lambda item: item.name)
def test_every_figure_has_a_status_and_a_source(item):
    types = ("fp16", "int8", *(("bf16",) if item.bf16 else ()), *(("fp8",) if item.fp8 else ()))
    for figure in (item.memory, item.bandwidth, *(item.peak(dtype) for dtype in types)):
        assert isinstance(figure, Figure)
        assert len(figure.source) > 10
    assert item.peak("int8").value == 2 * item.peak("fp16").value
    assert item.handover.source
    assert item.handover.status in ("official", "reported")


@pytest.mark.parametrize(
    ("name", "fp16", "bf16"),
    [("910B1", 363.7, 363.7), ("910C (one die)", 363.7, 363.7), ("950PR", 432.5, 432.5)],
)
def test_derived_peaks(name, fp16, bf16):
    for dtype, teraflops in (("fp16", fp16), ("bf16", bf16)):
        peak = accelerator(f"Ascend {name}").peak(dtype)
        assert peak.value / 1e12 == pytest.approx(teraflops, abs=0.05)
        assert peak.status == "derived"


@pytest.mark.parametrize(
    ("name", "fp16", "bf16"), [("B2", 376, 353.9), ("B3", 313, 294.9), ("B4", 280, 245.8)]
)
def test_stated_peaks_differ_by_type(name, fp16, bf16):
    item = accelerator(f"Ascend 910{name}")
    assert [item.peak(dtype).value / 1e12 for dtype in ("fp16", "bf16")] == [fp16, bf16]
    assert item.peak("fp16").status == "official"
    assert item.profile in item.peak("fp16").source


def test_a_profile_of_the_simulator_is_the_card_whose_clock_gives_its_bf16_peak():
    stated = [item for item in ACCELERATORS.values() if item.stated]
    assert len(stated) == 3
    for item in stated:
        derived = replace(item, stated=()).peak("bf16")
        assert item.peak("bf16").value == pytest.approx(derived.value, rel=2e-4)


def test_an_accelerator_of_64_gib_reads_twice_as_fast_as_one_of_32():
    fast, half = (accelerator(f"Ascend 910B{i}").bandwidth for i in (2, 4))
    assert fast.value == 1.6 * 1024**4 == 2 * half.value
    assert {fast.status, half.status} == {"official"}


def test_attention_is_offered_where_its_documents_list_the_product():
    """FIA: A2 and A3; fusion attention: A2 and the 950DT; neither: the 310P and the 950PR."""
    names = {item.name: len(item.attention) for item in ACCELERATORS.values()}
    assert names["Ascend 310P3"] == names["Ascend 950PR"] == 0
    assert accelerator("Ascend 950DT").attention == ("npu_fusion_attention",)
    assert accelerator("Ascend 910C (one die)").attention == ("npu_fused_infer_attention_score",)
    assert names["Ascend 910B3"] == 2


def test_memory_is_in_bytes():
    assert accelerator("Ascend 910B4").memory.value == 32 * GiB


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="unknown accelerator '910Z'; known are Ascend 910B1"):
        accelerator("910Z")
    with pytest.raises(ValueError, match="no fp8 cube rate"):
        accelerator("Ascend 910B1").peak("fp8")
    with pytest.raises(ValueError, match="no bf16 cube rate"):
        accelerator("Ascend 310P3").peak("bf16")
