"""PaperModel and replay: the engine's own scheduling, on a clock that can be worked out by hand."""

import pytest

from helpers.engine import ContinuousBatcher, StaticBatcher
from helpers.estimates import Ceilings, step_cost
from helpers.model import PUBLISHED
from helpers.simulation import PaperModel, pass_cost, serve_on_paper
from helpers.traffic import Served, VirtualClock

SHAPE, CEILINGS = PUBLISHED["SmolLM2-135M"], Ceilings(bandwidth=1e10, flops=1e11)


def continuous(seats=4, chunk=None, budget=512, pages=400, overhead=0.0, **sizes):
    clock = VirtualClock()
    model = PaperModel(SHAPE, CEILINGS, clock, overhead, **sizes)
    return ContinuousBatcher(model, model.cache(pages), seats, budget, chunk, clock=clock), clock


def seconds(new, history, **sizes):
    return step_cost(SHAPE, new, history, **sizes).seconds(CEILINGS)


def test_a_pass_takes_its_predicted_time():
    batcher, clock = continuous(chunk=8, overhead=0.5, weight_bytes=4, element_bytes=4)
    serve_on_paper(batcher, [20], [3], [0.0], clock)
    passes = [([8], [0]), ([8], [8]), ([4], [16]), ([1], [20]), ([1], [21])]
    predicted = [0.5 + seconds(new, old, weight_bytes=4, element_bytes=4) for new, old in passes]
    assert [step.end - step.begin for step in batcher.steps] == pytest.approx(predicted, rel=1e-12)
    assert clock.now == pytest.approx(sum(predicted), rel=1e-12)
    costs = [
        pass_cost(SHAPE, step, weight_bytes=4, element_bytes=4).seconds(CEILINGS) for step in batcher.steps
    ]
    assert costs == pytest.approx([p - 0.5 for p in predicted], rel=1e-12)
    state = batcher.finished[0]
    assert state.ttft == pytest.approx(sum(predicted[:3]), rel=1e-12)
    assert state.tpot == pytest.approx(sum(predicted[3:]) / 2, rel=1e-12)


def test_a_request_that_comes_during_a_pass_joins_after_it_and_has_waited_since():
    batcher, clock = continuous()
    first = seconds([400], [0])
    serve_on_paper(batcher, [400, 10], [2, 1], [0.0, first / 4], clock)
    assert batcher.finished[1].arrived == first / 4
    assert [len(step.parts) for step in batcher.steps] == [1, 2]
    assert batcher.finished[1].ttft == pytest.approx(first * 3 / 4 + seconds([1, 10], [400, 0]), rel=1e-12)


def test_time_goes_by_while_no_request_is_here():
    batcher, clock = continuous()
    serve_on_paper(batcher, [5, 5], [1, 1], [1.0, 50.0], clock)
    assert [step.begin for step in batcher.steps] == [1.0, 50.0]
    assert Served.of(batcher).seconds == pytest.approx(49.0 + seconds([5], [0]))


def test_static_batches_take_the_requests_that_are_there():
    clock = VirtualClock()
    model = PaperModel(SHAPE, CEILINGS, clock)
    batcher = StaticBatcher(model, model.cache(400), 2, clock)
    serve_on_paper(batcher, [30, 8, 16], [4, 2, 1], [0.0, 1e-6, 2e-6], clock)
    widths = [len(step.parts) for step in batcher.steps]
    assert widths == [1] * 4 + [2] * 2
    assert [part.num_tokens for part in batcher.steps[4].parts] == [16, 16]
    assert Served.of(batcher).computed == 30 + 3 + 32 + 2


def test_equal_prompts_are_not_shared_on_paper():
    batcher, clock = continuous()
    serve_on_paper(batcher, [64] * 3, [1] * 3, [0.0] * 3, clock)
    assert Served.of(batcher).computed == 3 * 64


def test_lists_that_do_not_fit_together_are_refused():
    batcher, clock = continuous()
    for lists in (([1], [1], [0.0, 1.0]), ([1, 1], [1], [0.0, 0.0]), ([1, 1], [1, 1], [1.0, 0.0])):
        with pytest.raises(ValueError, match="arrivals in order"):
            serve_on_paper(batcher, *lists, clock)
    assert batcher.steps == []
