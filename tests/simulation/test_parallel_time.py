"""Times of shared models: the work divided, the messages by hand, and both in the simulator."""

import math

import pytest

from helpers.engine import Request
from helpers.estimates import Ceilings
from helpers.model import PUBLISHED
from helpers.simulation import (
    Load,
    PipelineTime,
    RooflineTime,
    SimulatedEngine,
    TensorParallelTime,
    Wire,
    stage_shares,
)

SHAPE = next(shape for shape in PUBLISHED.values() if shape.hidden_size == 576)
DEVICE, WIRE = Ceilings(bandwidth=1e10, flops=1e11), Wire(1e-5, 1e9)
LOAD = Load.of([(1, 100)] * 8)


def test_tensor_parallel_passes_share_the_work_and_pay_for_61_sums_and_a_gather():
    one = RooflineTime(SHAPE, DEVICE)
    assert TensorParallelTime(SHAPE, DEVICE, WIRE, 1)(LOAD) == one(LOAD)
    for world in (2, 3):
        time = TensorParallelTime(SHAPE, DEVICE, WIRE, world)
        sums = 61 * WIRE.all_reduce(8 * 576 * 2, world)
        said = sums + WIRE.all_gather(8 * 49152 / world * 4, world)
        assert time.communication(LOAD) == pytest.approx(said)
        assert time(LOAD) == pytest.approx(one(LOAD) / world + said)
    wide = TensorParallelTime(SHAPE, DEVICE, WIRE, 2, element_bytes=4)
    assert wide.communication(LOAD) > TensorParallelTime(SHAPE, DEVICE, WIRE, 2).communication(LOAD)


def test_an_uneven_pipeline_is_as_fast_as_its_slowest_stage():
    one, free = RooflineTime(SHAPE, DEVICE), Wire(0.0, 1e30)
    even, balanced = stage_shares(SHAPE, [15, 15]), stage_shares(SHAPE, [19, 11])
    assert balanced == [0.5, 0.5]
    for shares, gain in ((even, 38 / 23), (balanced, 2.0)):
        time = PipelineTime(one, shares, free, 576 * 2, groups=2)
        assert 2 * one(LOAD) / time(LOAD) == pytest.approx(gain)
    assert PipelineTime(one, balanced, free, 576 * 2)(LOAD) == pytest.approx(one(LOAD))
    assert PipelineTime(one, [1.0], WIRE, 576 * 2)(LOAD) == one(LOAD)


def test_messages_of_a_pipeline():
    def one(load):
        return 1.0

    time = PipelineTime(one, [0.25] * 4, WIRE, 1152)
    assert time.latency(LOAD) == pytest.approx(1 + 3 * WIRE.send(8 * 1152) + WIRE.send(64))
    assert PipelineTime(one, [0.25] * 4, WIRE, 1152, groups=8)(LOAD) == 2.0


def test_the_simulator_takes_both():
    def end(time):
        engine = SimulatedEngine(time, 64)
        engine.submit(Request("a", list(range(40)), 8), 0.0, 8)
        engine.run_until(math.inf)
        return engine.clock()

    one = RooflineTime(SHAPE, DEVICE)
    assert end(TensorParallelTime(SHAPE, DEVICE, Wire(0.0, 1e30), 2)) == pytest.approx(end(one) / 2)
    assert end(PipelineTime(one, [0.5, 0.5], Wire(0.0, 1e30), 1152)) == pytest.approx(end(one))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="1 device or more"):
        TensorParallelTime(SHAPE, DEVICE, WIRE, 0)
    with pytest.raises(ValueError, match="sum to 1"):
        PipelineTime(lambda load: 1.0, [0.5], WIRE, 1)
    with pytest.raises(ValueError, match="sum to 1"):
        PipelineTime(lambda load: 1.0, [1.0], WIRE, 1, groups=0)
    with pytest.raises(ValueError, match="share 30 layers"):
        stage_shares(SHAPE, [10, 10])
