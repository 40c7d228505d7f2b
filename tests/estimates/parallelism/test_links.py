"""Links: every figure has a source, and an unknown one must be given."""

import pytest

from helpers.estimates import LINKS, link


def test_every_figure_has_its_source_and_a_value_or_is_unknown():
    assert {name.split()[0] for name in LINKS} == {"HCCS", "UB", "RoCE", "PCIe"}
    for item in LINKS.values():
        for figure in (item.bandwidth, item.latency):
            assert figure.source
            assert (figure.value is None) == (figure.status == "unknown")
    assert round(link("PCIe 5.0 x16").bandwidth.value / 1e9, 1) == 63.0


def test_a_message_takes_latency_and_bytes():
    ub = link("UB (910C supernode)")
    assert ub.seconds(196e3) == pytest.approx(2e-6)
    assert ub.seconds(0, latency=3e-6) == 3e-6
    assert link("RoCE (200 GbE)").seconds(25e6, latency=1e-5) == pytest.approx(1.01e-3)
    with pytest.raises(ValueError, match="no latency is published"):
        link("PCIe 4.0 x16").seconds(1)
    with pytest.raises(ValueError, match="0 or more"):
        ub.seconds(-1)
    with pytest.raises(ValueError, match="unknown link 'NVLink'; known are HCCS"):
        link("NVLink")
