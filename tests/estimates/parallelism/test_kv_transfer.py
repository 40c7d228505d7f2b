"""Keys and values that move: bytes by hand, and the layers' messages against a schedule step by step."""

import pytest

from helpers.estimates import Ceilings, KVTransfer, prefill_cost
from helpers.model import PUBLISHED

LLAMA = PUBLISHED["Llama-3-8B"]
DIE = Ceilings(bandwidth=1e12, flops=1e14)


def test_bytes_and_times_by_hand():
    moved = KVTransfer.of(LLAMA, 1000)
    assert moved.nbytes == 2 * 32 * 8 * 128 * 2 * 1000
    assert KVTransfer.of(LLAMA, 1000, "int8").nbytes == moved.nbytes // 2
    assert moved.seconds(1e9, 2e-6) == pytest.approx(moved.nbytes / 1e9 + 2e-6)
    again = prefill_cost(LLAMA, 1000).seconds(DIE)
    assert moved.least_bandwidth(DIE) == pytest.approx(moved.nbytes / again)
    assert moved.seconds(moved.least_bandwidth(DIE)) == pytest.approx(again)


@pytest.mark.parametrize("bandwidth", [1e8, 1e9, 1e10, 1e12])
@pytest.mark.parametrize("latency", [0.0, 1e-3])
def test_layers_are_sent_while_the_next_ones_are_computed(bandwidth, latency):
    moved, prefill = KVTransfer.of(LLAMA, 2000), 0.2
    link_free = 0.0
    for layer in range(32):
        computed = prefill * (layer + 1) / 32
        link_free = max(link_free, computed) + latency + moved.nbytes / 32 / bandwidth
    assert moved.exposed(prefill, bandwidth, latency) == pytest.approx(link_free - prefill)


def test_what_cannot_be_is_refused():
    moved = KVTransfer.of(LLAMA, 10)
    for bandwidth, latency in ((0, 0), (1, -1), (float("nan"), 0)):
        with pytest.raises(ValueError, match="bandwidth is above 0"):
            moved.seconds(bandwidth, latency)
    for bandwidth, latency in ((0, 0), (1, -1)):
        with pytest.raises(ValueError, match="bandwidth is above 0"):
            moved.exposed(1.0, bandwidth, latency)
    with pytest.raises(ValueError, match="1 or more new tokens"):
        KVTransfer.of(LLAMA, 0)
