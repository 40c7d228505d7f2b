"""The calibration run sees all that a fit needs."""

import random

import pytest

from helpers.engine import Part, Step
from helpers.simulation import Load, calibrate, calibration_run, whole_passes
from helpers.traffic import Lengths
from tests.tiny import reference, twin


def test_the_calibration_run_sees_all_sizes():
    model = twin(reference("llama"))
    steps = calibration_run(model, max_batch_size=6, token_budget=64, page_size=4, rounds=1)
    assert {len(step.parts) for step in steps} == {1, 2, 3, 4, 5, 6}
    chunks = {part.num_tokens for step in steps for part in step.parts if not part.decode}
    assert chunks >= {8, 16, 32}
    assert any(len({part.decode for part in step.parts}) == 2 for step in steps), "prompts beside answers"
    alike = calibration_run(model, 6, 64, 4, 1, prompts=Lengths(20, 0.2, 15, 25))
    chunks = [part.num_tokens for step in alike for part in step.parts if not part.decode]
    assert max(chunks) > 25, "and one as long as a pass may be"
    assert sum(15 <= count <= 25 for count in chunks) >= 5
    assert calibrate(model, 6, 64, 4, 1)(Load(1, 1, 10, 11)) > 0
    with pytest.raises(ValueError, match="rounds"):
        calibration_run(model, rounds=0)


def test_a_pass_lasts_until_the_next_where_a_request_goes_on():
    """Held for 200 random logs: idle time belongs to no pass, the time between two passes of a request to the first."""
    drawn = random.Random(0)
    for _ in range(200):
        steps, now = [], 0.0
        for i in range(drawn.randint(0, 6)):
            begin, end = now + drawn.random(), now + 1 + drawn.random()
            names = drawn.sample("abcd", drawn.randint(1, 3))
            steps.append(Step(begin, end, tuple(Part(name, i, 1, True) for name in names), (), 0))
            now = end
        whole = whole_passes(steps)
        assert [(step.begin, step.parts) for step in whole] == [(step.begin, step.parts) for step in steps]
        for one, after, found in zip(steps, [*steps, None][1:], whole, strict=True):
            goes_on = after and any(
                part.request_id in {p.request_id for p in after.parts} for part in one.parts
            )
            assert found.end == (after.begin if goes_on else one.end)
