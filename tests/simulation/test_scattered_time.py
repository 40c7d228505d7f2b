"""Passes scatter by the factors that were measured, and a seed is one outcome."""

import statistics

import pytest

from helpers.engine import Part, RoundRobinRouter, Step
from helpers.simulation import FittedTime, Load, ScatteredTime, SimulatedEngine, simulate_replicas, together
from helpers.traffic import Lengths, Mix, multi_turn

LOAD = Load.of([(3, 5)])


def exact(load):
    return 0.02 + 0.001 * load.tokens


def test_times_are_those_that_were_measured():
    time = ScatteredTime(exact, [0.0, 1.0, -0.5], seed=1)
    drawn = [time(LOAD) for _ in range(300)]
    assert {round(t / exact(LOAD), 9) for t in drawn} == {1.0, 0.5, 2.0}
    again = ScatteredTime(exact, [0.0, 1.0, -0.5], seed=1)
    assert drawn == [again(LOAD) for _ in range(300)]


def test_a_fit_with_its_own_errors_gives_the_measured_seconds_back():
    lengths, factors = [1, 2, 4, 8, 16], [0.8, 1.0, 1.3]
    steps = [
        Step(0.0, exact(Load.of([(n, 0)])) * factors[i % 3], (Part("a", 0, n, False),), (), 0)
        for i, n in enumerate(lengths * 9)
    ]
    fitted = FittedTime.of(steps, skip=0)
    time = ScatteredTime(fitted, fitted.errors(steps))
    mean = statistics.mean(time(Load.of([(4, 0)])) for _ in range(3000))
    assert mean == pytest.approx(statistics.mean(factors) * exact(Load.of([(4, 0)])), rel=0.03)


def test_where_turns_go_in_turn_a_scatter_of_passes_changes_what_is_found_again():
    talks = multi_turn(5, 20.0, 4, 0.05, mix=Mix(Lengths(40, 0.3, 20, 80), Lengths(8, 0.3, 4, 16)), seed=3)

    def rate(errors, seed):
        engines = [
            SimulatedEngine(ScatteredTime(exact, errors, 2 * seed + i), 96, 16, 4, 128) for i in (0, 1)
        ]
        return together(simulate_replicas(talks, engines, RoundRobinRouter())).hit_rate

    assert len({rate([0.0], seed) for seed in range(5)}) == 1
    assert len({rate([-0.1, 0.0, 0.1], seed) for seed in range(10)}) > 3


@pytest.mark.parametrize("errors", [[], [-1.0], [0.0, float("nan")]])
def test_errors_that_no_pass_has_are_refused(errors):
    with pytest.raises(ValueError, match="errors above -1, one or more"):
        ScatteredTime(exact, errors)
