"""Outcomes of requests, worked out by hand."""

import pytest

from helpers.engine import Request, RequestState
from helpers.traffic import Outcome
from tests.traffic.runs import outcome


def test_an_outcome_of_a_request():
    state = RequestState(Request("a", [1, 2, 3], 9, priority=2, client="c"), 1.0)
    with pytest.raises(ValueError, match="not done"):
        Outcome.of(state)
    state.token_ids, state.token_times = [5, 6, 7], [2.0, 5.0, 6.0]
    state.first_scheduled, state.ended, state.finish_reason = 1.5, 6.0, "stop"
    found = Outcome.of(state)
    assert (found.ttft, found.tpot, found.latency, found.wait, found.largest_gap) == (1.0, 2.0, 5.0, 0.5, 3.0)
    assert (found.client, found.priority, found.prompt_tokens, found.new_tokens) == ("c", 2, 3, 3)
    assert [found.tokens_by(t) for t in (1.9, 2.0, 4.0, 6.0, 9.0)] == [0.0, 1.0, 2.0, 3.0, 3.0]


def test_a_request_without_a_token_has_no_times():
    gone = outcome("x", 2.0, (), "cancelled", admitted=None)
    assert (gone.ttft, gone.tpot, gone.wait, gone.served, gone.tokens_by(9.0)) == (
        None,
        None,
        3.0,
        False,
        0.0,
    )
    assert outcome("y", times=(1.0,)).tpot is None
