"""Pass times: the roofline's are `step_cost`'s, fits find what made the log."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig

from helpers.engine import Part, Step
from helpers.estimates import Ceilings, accelerator_ceilings, step_cost
from helpers.model import PUBLISHED, ModelShape
from helpers.simulation import FittedTime, Load, RooflineTime


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 10**5)), min_size=1, max_size=40),
    st.sampled_from(["SmolLM2-135M", "Qwen3-32B", "GPT-3 175B"]),
    st.floats(1e9, 1e16),
)
def test_the_rooflines_times_are_those_of_the_cost_model(parts, name, flops):
    new, old = zip(*parts, strict=True)
    ceilings, sizes = Ceilings(1e12, flops), dict(weight_bytes=1.0, element_bytes=4.0)
    expected = step_cost(PUBLISHED[name], new, old, **sizes).seconds(ceilings) + 0.25
    found = RooflineTime(PUBLISHED[name], ceilings, 0.25, **sizes)(Load.of(parts))
    assert found == pytest.approx(expected, rel=1e-12)


def test_loads_are_sums():
    assert Load.of([(1, 10), (3, 0), (2, 5)]) == Load(6, 3, 15, 11 + 6 + 10 + 3)


def log(seconds, count=200, seed=0):
    """Passes of many sizes that took so long."""
    rng, steps = random.Random(seed), []
    for _ in range(count):
        rows = rng.choice([1, 1, 2, 3, 5, 8])
        parts = [(1, rng.randrange(1, 500)) for _ in range(rows)]
        if rng.random() < 0.5:
            parts.append((rng.randrange(1, 200), rng.choice([0, 0, 64])))
        taken = seconds(Load.of(parts))
        steps.append(
            Step(
                5.0,
                5.0 + taken,
                tuple(Part(i, old, new, new == 1) for i, (new, old) in enumerate(parts)),
                (),
                0,
            )
        )
    return steps


def test_a_fit_finds_the_law_that_made_the_log():
    def law(load):
        return 0.02 + 0.001 * load.tokens + 0.002 * load.sequences + 1e-6 * load.attended

    fit = FittedTime.of(log(law))
    assert max(map(abs, fit.errors(log(law, seed=1)))) < 1e-6
    assert fit.per_sequence == pytest.approx(0.002, rel=1e-3)
    assert fit.per_pair == pytest.approx(1e-6, rel=1e-3)
    assert fit(Load(1000, 1, 0, 500500)) == pytest.approx(law(Load(1000, 1, 0, 500500)), rel=1e-3), (
        "beyond the log"
    )


def test_a_fit_follows_kernels_that_are_not_linear():
    law = lambda load: 0.01 if load.tokens == 1 else 0.03 if load.tokens <= 8 else 0.003 * load.tokens  # noqa: E731
    fit = FittedTime.of(log(law, 600))
    assert fit(Load(1, 1, 0, 1)) == pytest.approx(0.01, rel=0.15)
    assert fit(Load(128, 1, 0, 1)) == pytest.approx(0.384, rel=0.1)


def test_no_share_is_negative():
    rng = random.Random(1)
    fit = FittedTime.of(log(lambda load: 0.05 * rng.uniform(0.5, 1.5)))
    assert min(*fit.at_knots, fit.per_sequence, fit.per_pair) >= 0
    assert fit(Load(10**4, 1, 0, 1)) >= 0


def test_beyond_what_was_seen_no_time_is_negative():
    """Two sizes at the end that noise turns round: the curve does not fall on for ever, nor rise out of all proportion."""
    for last in (0.2, 0.4):
        fit = FittedTime((1, 128, 136), (0.02, 0.3, last), 0.0, 0.0)
        assert last <= fit(Load(1360, 1, 0, 1)) <= 10 * last
    assert FittedTime((4, 8), (0.1, 0.3), 0.0, 0.0)(Load(1, 1, 0, 1)) == 0.1
    seen = [Step(0.0, 1.0, (Part(0, 0, n, False),), (), 0) for n in [1, 2, 3, 100, 128, 131] * 3]
    assert FittedTime.of(seen).knots == (1, 2, 4, 8, 16, 32, 64, 131)


def test_little_is_not_fitted():
    with pytest.raises(ValueError, match="8 passes or more"):
        FittedTime.of(log(lambda load: 1.0, 8))
    with pytest.raises(ValueError, match="overhead"):
        RooflineTime(PUBLISHED["Llama-3-8B"], Ceilings(1.0, 1.0), -1.0)


def test_a_model_whose_cost_is_not_linear_is_refused():
    config = MistralConfig(
        vocab_size=99, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=32,
    )  # fmt: skip
    with pytest.raises(ValueError, match="not linear in its sums"):
        RooflineTime(ModelShape.from_hf(config), accelerator_ceilings("Ascend 910C (one die)"))
