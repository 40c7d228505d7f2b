"""Load from outside: every call is sent, followers follow, times count from the moment that was due."""

import pytest

from helpers.serving.clients import as_sent, at_once, closed_loop, completion, open_loop
from helpers.simulation import SimulatedEngine, simulate
from helpers.traffic import Arrival, Lengths, Mix, Trace, multi_turn, poisson
from tests.serving.service import alone, is_empty, model, running, until

VOCAB = model().cfg.vocab_size
SMALL = Mix(Lengths(12, 0.5, 4, 30), Lengths(6, 0.5, 2, 12))


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started


def test_a_trace_is_sent_as_it_stands(server):
    trace = poisson(12, 60, SMALL, seed=2)
    report = open_loop(server.url, trace, VOCAB)
    assert [(o.prompt_tokens, o.new_tokens) for o in sorted(report.outcomes, key=lambda o: o.name)] == [
        (a.prompt_tokens, a.new_tokens) for a in trace
    ]
    assert all(o.served and o.ttft > 0 for o in report.outcomes)
    assert report.seconds >= trace.duration
    at = {o.name: o.arrived for o in report.outcomes}
    assert all(abs(at[i] - at[0] - (trace[i].at - trace[0].at)) < 1e-9 for i in range(len(trace)))


def test_followers_come_behind_their_answers_and_find_their_beginning(server):
    trace = multi_turn(3, 100, 3, 0.01, mix=Mix(Lengths(20, 0.2, 16, 24), Lengths(4)), seed=1)
    report = open_loop(server.url, trace, VOCAB, cache_salt="talks")
    done = {o.name: o for o in report.outcomes}
    for place, arrival in enumerate(trace):
        if arrival.follows is not None:
            assert done[place].arrived >= done[arrival.follows].ended
            assert done[place].cached_tokens >= trace[arrival.follows].prompt_tokens // 8 * 8 - 8
    assert {o.client for o in report.outcomes} == {"talk 0", "talk 1", "talk 2"}


def test_a_simulator_of_the_trace_as_sent_finds_what_the_server_finds():
    """One talk on one engine, nothing is displaced: hits follow from texts alone, to the token."""
    trace = multi_turn(1, 100, 4, 0.01, mix=Mix(Lengths(20, 0.2, 16, 24), Lengths(7)), seed=1)
    sizes = dict(num_pages=128, page_size=8, max_batch_size=8, token_budget=128)
    told = [
        [o.cached_tokens for o in simulate(one, SimulatedEngine(lambda load: 0.01, **sizes)).outcomes]
        for one in (as_sent(trace), trace)
    ]
    with running(num_pages=128, page_size=8) as fresh:
        found = [o.cached_tokens for o in open_loop(fresh.url, trace, VOCAB).outcomes]
    assert found == told[0]
    assert sum(found) < sum(told[1]), "a client that knew the answers' tokens would find them, too"


def test_a_request_for_nothing_is_refused():
    with pytest.raises(ValueError, match="1 token or more"):
        open_loop("http://127.0.0.1:1", Trace([Arrival(0.0, 4, 0)]), VOCAB)


def test_a_wait_behind_others_counts_from_the_moment_that_was_due():
    with running(slow=0.02, max_batch_size=1) as slow:
        report = open_loop(slow.url, Trace([Arrival(0.0, 4, 10), Arrival(0.01, 4, 10)]), VOCAB)
    # One seat: the one that comes second, which need not be the one that was sent second, waits for ten passes.
    assert max(outcome.ttft for outcome in report.outcomes) >= 11 * 0.02 - 0.01


def test_clients_ask_again_when_they_are_answered(server):
    bodies = [completion(f"Number {i}", 2 + i % 3) for i in range(9)]
    report = closed_loop(server.url, bodies, 2)
    assert len(report.outcomes) == 9
    assert sum(o.new_tokens for o in report.outcomes) == sum(2 + i % 3 for i in range(9))
    for outcome in report.outcomes:  # never more than two at a time
        others = [o for o in report.outcomes if o.arrived <= outcome.arrived < o.ended]
        assert len(others) <= 2
    with pytest.raises(ValueError, match="clients must be 1 or more"):
        closed_loop(server.url, bodies, 0)


def test_at_once_keeps_the_order_and_some_may_leave(server):
    prompts = [f"Number {i}" for i in range(6)]
    heard = at_once(server.url, [completion(p, 12) for p in prompts], [None, 2, None, 3])
    for place in (0, 2, 4, 5):
        assert heard[place].text == alone(prompts[place], 12, ignore_eos=True).answer
    assert [len(heard[place].moments) for place in (1, 3)] == [2, 3]
    until(lambda: is_empty(server))
