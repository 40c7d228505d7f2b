"""Times of expert parallelism: one device costs what a pass costs, several share experts and pay for rows."""

from dataclasses import replace

import pytest

from helpers.estimates import Ceilings, devices_per_token, step_cost
from helpers.model import PUBLISHED, LayerShape
from helpers.simulation import ExpertParallelTime, Load, Wire

LAYER = LayerShape(
    kv_heads=2, key_dim=8, value_dim=8, num_heads=4, matrices=3000, router=640, vectors=80, expert=9600,
    num_experts=16, experts_per_token=4,
)  # fmt: skip
SHAPE = replace(
    PUBLISHED["SmolLM2-135M"], name="toy", num_layers=3, hidden_size=40, num_heads=4, num_kv_heads=2, head_dim=8,
    vocab_size=100, layers=(LAYER, LAYER, replace(LAYER, num_experts=0, expert=0, router=0, experts_per_token=0)),
)  # fmt: skip
WIRE = Wire(1e-5, 1e9)
SLOW_MEMORY, SLOW_ARITHMETIC = Ceilings(1e9, 1e15), Ceilings(1e15, 1e9)
PARTS = [(1, 30)] * 6 + [(7, 2), (40, 0)]
LOAD = Load.of(PARTS)


@pytest.mark.parametrize("ceilings", [SLOW_MEMORY, SLOW_ARITHMETIC])
@pytest.mark.parametrize("sizes", [{}, {"weight_bytes": 0.5, "element_bytes": 4.0}])
def test_one_device_takes_what_the_pass_costs(ceilings, sizes):
    time = ExpertParallelTime(SHAPE, ceilings, WIRE, 1, **sizes)
    new, old = zip(*PARTS, strict=True)
    assert time(LOAD) == pytest.approx(step_cost(SHAPE, new, old, **sizes).seconds(ceilings), rel=1e-9)
    assert time.communication(LOAD) == 0.0


def test_rows_travel_to_their_experts_and_back_in_both_layers():
    time = ExpertParallelTime(SHAPE, SLOW_MEMORY, WIRE, 4)
    row = LOAD.tokens / 4 * 40 * 2 * devices_per_token(16, 4, 4)
    assert time.communication(LOAD) == pytest.approx(2 * 2 * WIRE.all_to_all(row, 4))
    assert time(LOAD) == time.work(LOAD) + time.communication(LOAD)


def test_arithmetic_is_shared_and_waits_for_the_busiest_device():
    one, four, uneven = (
        ExpertParallelTime(SHAPE, SLOW_ARITHMETIC, WIRE, world, imbalance).work(LOAD)
        for world, imbalance in ((1, 1.0), (4, 1.0), (4, 2.5))
    )
    assert four == pytest.approx(one / 4)
    experts = 2 * LOAD.tokens * 2 * 4 * 9600 / 1e9
    assert uneven - four == pytest.approx(1.5 * experts / 4)


def test_a_device_reads_its_experts_and_all_other_weights():
    many = Load.of([(1, 0)] * 4000)  # all experts are met
    one, four = (ExpertParallelTime(SHAPE, SLOW_MEMORY, WIRE, world).work(many) for world in (1, 4))
    experts = 2 * 2 * 16 * 9600 / 1e9
    rest = 2 * (3 * (3000 + 80) + 2 * 640 + 40 + 100 * 40) / 1e9
    assert four == pytest.approx((one - experts - rest) / 4 + experts / 4 + rest, rel=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="SmolLM2-135M has no experts"):
        ExpertParallelTime(PUBLISHED["SmolLM2-135M"], SLOW_MEMORY, WIRE, 2)
    for world, imbalance in ((2, 0.5), (2, 2.1), (0, 2.0)):
        with pytest.raises(ValueError, match="imbalance is a factor"):
            ExpertParallelTime(SHAPE, SLOW_MEMORY, WIRE, world, imbalance)
    for world in (0, 17):
        with pytest.raises(ValueError, match="experts go to 1 to 16 devices"):
            ExpertParallelTime(SHAPE, SLOW_MEMORY, WIRE, world)
