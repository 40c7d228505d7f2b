"""Predicted lengths: the truth in passes, and guesses with an error of the spread that is asked for."""

import math

import numpy as np
import pytest

from helpers.engine import Request
from helpers.traffic import Arrival, KnownLength, PredictedLength, Trace

TRACE = Trace([Arrival(0.0, 600, 5, max_tokens=50), Arrival(1.0, 8, 2)])
MANY = Trace([Arrival(0.0, 1, 10)] * 4000)


def guesses(spread, seed=0):
    """The guessed tokens of each answer of `MANY`, whose prompts take one pass, as the first token does."""
    predicted = PredictedLength(MANY, spread, seed)
    return np.array([predicted(Request(i, [1], 10)) for i in range(len(MANY))])


def test_a_known_length_counts_passes_of_the_prompt_and_tokens_of_the_true_answer():
    known = KnownLength(TRACE)
    assert known(Request(0, [1] * 600, 50)) == 2 + 5 - 1, "the cap of 50 plays no part"
    assert known(Request(1, [1] * 8, 2)) == 1 + 2 - 1


@pytest.mark.parametrize("name", ["x", -1, 2, 0.0, None])
def test_a_request_that_is_not_of_the_trace_has_no_length(name):
    for length in (KnownLength(TRACE), PredictedLength(TRACE, 0.0)):
        with pytest.raises(ValueError, match="none of the trace's 2"):
            length(Request(name, [1], 1))


def test_a_guess_without_spread_is_the_truth():
    assert set(guesses(0.0)) == {10.0}


def test_guesses_err_by_the_spread_on_both_sides():
    errors = np.log(guesses(0.5) / 10)
    assert errors.std() == pytest.approx(0.5, rel=0.05)
    assert abs(errors.mean()) < 0.03


def test_equal_seeds_give_equal_guesses_and_a_guess_is_made_once():
    assert (guesses(0.5) == guesses(0.5)).all()
    assert (guesses(0.5) != guesses(0.5, seed=1)).all()
    predicted, request = PredictedLength(TRACE, 1.0), Request(0, [1] * 600, 50)
    assert predicted(request) == predicted(request)


@pytest.mark.parametrize("spread", [-0.1, math.inf, math.nan])
def test_a_spread_that_cannot_be_is_refused(spread):
    with pytest.raises(ValueError, match="the spread must be 0 or more"):
        PredictedLength(TRACE, spread)
